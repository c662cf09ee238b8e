-- How to read a frame of Kraken's WebSocket v2.
-- control: heartbeat, status, subscribe, unsubscribe, pong, error
-- fields: channel, type, data, timestamp, history, symbol, interval, response
-- instrument: replace(symbol, '/', '-')
-- market: 'spot'
--
-- Data is {"channel", "type": "snapshot" | "update", "data": [...]}; an answer has a "method", and
-- an error where it is refused; a REST answer is {"history": TABLE, "symbol", "interval",
-- "response"}. Frames are not numbered: books have checksums, trades numbers.
-- frame: {"channel": "VARCHAR", "type": "VARCHAR", "method": "VARCHAR", "error": "VARCHAR",
-- frame:  "result": "JSON", "success": "VARCHAR", "req_id": "VARCHAR", "symbol": "VARCHAR",
-- frame:  "timestamp": "VARCHAR", "history": "VARCHAR", "interval": "VARCHAR",
-- frame:  "response": "JSON", "time_in": "VARCHAR", "time_out": "VARCHAR", "data": [{
-- frame:    "symbol": "VARCHAR", "timestamp": "VARCHAR", "checksum": "VARCHAR",
-- frame:    "bids": [{"price": "VARCHAR", "qty": "VARCHAR"}],
-- frame:    "asks": [{"price": "VARCHAR", "qty": "VARCHAR"}],
-- frame:    "bid": "VARCHAR", "bid_qty": "VARCHAR", "ask": "VARCHAR", "ask_qty": "VARCHAR",
-- frame:    "last": "VARCHAR", "volume": "VARCHAR", "vwap": "VARCHAR", "low": "VARCHAR",
-- frame:    "high": "VARCHAR", "change": "VARCHAR", "change_pct": "VARCHAR",
-- frame:    "side": "VARCHAR", "price": "VARCHAR", "qty": "VARCHAR", "ord_type": "VARCHAR",
-- frame:    "trade_id": "VARCHAR", "open": "VARCHAR", "close": "VARCHAR", "trades": "VARCHAR",
-- frame:    "interval_begin": "VARCHAR", "interval": "VARCHAR",
-- frame:    "api_version": "VARCHAR", "connection_id": "VARCHAR", "system": "VARCHAR",
-- frame:    "version": "VARCHAR"}]}
SELECT
    *,
    coalesce(
        data.channel, data.method, 'history_' || data.history,
        CASE WHEN data.error IS NOT NULL THEN 'error' END
    )                                                   AS kind,
    NULL::BIGINT                                        AS seq,
    least(whole_number(data.data[1].trade_id), whole_number(data.data[-1].trade_id)) AS run_first,
    greatest(whole_number(data.data[1].trade_id), whole_number(data.data[-1].trade_id)) AS run_last,
    CASE WHEN data.data[1].trade_id IS NOT NULL THEN 'trades' END AS run_channel,
    data.data[1].symbol                                 AS run_symbol,
    false                                               AS restarts,
    instant(data.data[1]."timestamp")                   AS ts_sent
FROM lines
