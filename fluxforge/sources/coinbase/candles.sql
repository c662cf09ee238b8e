-- One row per five-minute candle as it was when the frame was sent.
-- takes: candles
-- rows: $.events[*].candles
-- key: symbol, start; last wins
--
-- The venue sends the running candle again and again, and never says that it is final.
-- A candle's event is its interval: ts_event is its start.
SELECT
    line_no, ts_recv, seq, conn,
    candle.product_id                       AS symbol,
    epoch_time(candle."start")              AS ts_event,
    candle.product_id                       AS instrument,
    'spot'                                  AS market,
    '5m'                                    AS "interval",
    epoch_time(candle."start")              AS "start",
    number(candle.open)                     AS open,
    number(candle.high)                     AS high,
    number(candle.low)                      AS low,
    number(candle.close)                    AS close,
    number(candle.volume)                   AS volume
FROM (
    SELECT *, unnest(event.candles) AS candle
    FROM (
        SELECT *, unnest(from_json(data, '{"events": [{"type": "VARCHAR", "candles": [{
            "product_id": "VARCHAR", "start": "VARCHAR", "open": "VARCHAR", "high": "VARCHAR",
            "low": "VARCHAR", "close": "VARCHAR", "volume": "VARCHAR"}]}]}').events) AS event
        FROM frames
        WHERE kind = 'candles'
    )
)
