-- One row per candle as it was when the frame was sent: of five minutes, or as REST was asked for.
-- takes: candles, history_candles
-- rows: $.events[*].candles | $.response.candles
-- key: symbol, interval, start; last wins
--
-- The venue sends the running candle again and again, and never says that it is final.
-- A candle's event is its interval: ts_event is its start.
SELECT
    line_no, ts_recv, seq, conn,
    coalesce(candle.product_id, data.symbol) AS symbol,
    epoch_time(candle."start")              AS ts_event,
    coalesce(data."interval", '5m')   AS "interval",
    epoch_time(candle."start")              AS "start",
    number(candle.open) AS open, number(candle.high) AS high, number(candle.low) AS low,
    number(candle.close) AS close, number(candle.volume) AS volume
FROM (
    SELECT *, unnest(event.candles) AS candle
    FROM (SELECT *, unnest(data.events) AS event FROM frames WHERE kind = 'candles')
    UNION ALL BY NAME
    SELECT *, unnest(from_json(data.response, '{"candles": [{
            "product_id": "VARCHAR", "start": "VARCHAR", "open": "VARCHAR", "high": "VARCHAR",
            "low": "VARCHAR", "close": "VARCHAR", "volume": "VARCHAR"}]}').candles) AS candle
    FROM frames WHERE kind = 'history_candles'
)
