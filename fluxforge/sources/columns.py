"""The columns of the tables that every venue has, each with its type in DuckDB's words.

A venue's ``.sql`` file selects by these names; what it leaves out is null. A table of a venue's own
declares its columns at the head of its file, and so does one whose type differs here.
"""

from __future__ import annotations

LEADING = {
    "symbol": "VARCHAR",  # in the venue's own spelling
    "ts_event": "TIMESTAMPTZ",  # the venue's time of the event
    "ts_recv": "TIMESTAMPTZ",  # when the frame was captured
    "seq": "BIGINT",  # the venue's number; null where it has none
    "conn": "VARCHAR",  # the socket
}
MARKET = {
    "instrument": "VARCHAR",  # in the common spelling: BASE-QUOTE for a spot pair
    "market": "VARCHAR",  # spot, linear, inverse
}
TABLES = {
    "trades": {
        "trade_id": "BIGINT",
        "price": "DOUBLE",
        "size": "DOUBLE",
        "side": "VARCHAR",  # the aggressor's: buy or sell
        "is_snapshot": "BOOLEAN",
    },
    "orderbook": {
        "side": "VARCHAR",  # bid or ask
        "price": "DOUBLE",
        "size": "DOUBLE",  # what now stands at the price; 0 removes the level
        "is_snapshot": "BOOLEAN",
        "position": "INTEGER",  # the level's place in its frame
        "checksum": "BIGINT",  # the venue's, of the book after this frame
    },
    "ticker": {
        "price": "DOUBLE",
        "best_bid": "DOUBLE",
        "best_bid_size": "DOUBLE",
        "best_ask": "DOUBLE",
        "best_ask_size": "DOUBLE",
        "volume_24h": "DOUBLE",
        "low_24h": "DOUBLE",
        "high_24h": "DOUBLE",
        "low_52w": "DOUBLE",
        "high_52w": "DOUBLE",
        "change_24h_percent": "DOUBLE",
        "is_snapshot": "BOOLEAN",
    },
    "candles": {
        "interval": "VARCHAR",  # 1m, 5m, 1h
        "start": "TIMESTAMPTZ",
        "open": "DOUBLE",
        "high": "DOUBLE",
        "low": "DOUBLE",
        "close": "DOUBLE",
        "volume": "DOUBLE",
    },
    "status": {
        "product_type": "VARCHAR",
        "base_currency": "VARCHAR",
        "quote_currency": "VARCHAR",
        "base_increment": "DOUBLE",
        "quote_increment": "DOUBLE",
        "display_name": "VARCHAR",
        "status": "VARCHAR",
        "status_message": "VARCHAR",
        "min_market_funds": "DOUBLE",
    },
}


def parse_columns(text: str) -> dict[str, str]:
    """Read ``name TYPE, name TYPE``, as the head of a ``.sql`` file declares its columns.

    >>> parse_columns("trade_id VARCHAR, price DOUBLE")
    {'trade_id': 'VARCHAR', 'price': 'DOUBLE'}
    """
    pairs = (column.split() for column in text.split(",") if column.strip())
    return {name: kind.upper() for name, kind in pairs}
