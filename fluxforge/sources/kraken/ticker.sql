-- One row per change of the last price or the best quotes. Not trades.
-- takes: ticker
-- rows: $.data
SELECT
    line_no, ts_recv, conn,
    ticker.symbol                           AS symbol,
    instant(ticker."timestamp")             AS ts_event,
    number(ticker.last)                     AS price,
    number(ticker.bid) AS best_bid, number(ticker.bid_qty) AS best_bid_size,
    number(ticker.ask) AS best_ask, number(ticker.ask_qty) AS best_ask_size,
    number(ticker.volume)                   AS volume_24h,
    number(ticker.low) AS low_24h, number(ticker.high) AS high_24h,
    number(ticker.change_pct)               AS change_24h_percent,
    "type" = 'snapshot'                     AS is_snapshot
FROM (
    SELECT *, frame."type" AS "type", unnest(frame.data) AS ticker
    FROM (
        SELECT *, from_json(data, '{"type": "VARCHAR", "data": [{"symbol": "VARCHAR",
            "bid": "VARCHAR", "bid_qty": "VARCHAR", "ask": "VARCHAR", "ask_qty": "VARCHAR",
            "last": "VARCHAR", "volume": "VARCHAR", "vwap": "VARCHAR", "low": "VARCHAR",
            "high": "VARCHAR", "change": "VARCHAR", "change_pct": "VARCHAR",
            "timestamp": "VARCHAR"}]}') AS frame
        FROM frames WHERE kind = 'ticker'
    )
)
