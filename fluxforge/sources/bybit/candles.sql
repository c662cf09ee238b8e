-- One row per candle as it was when the frame was sent.
-- takes: kline
-- rows: $.data
-- key: market, symbol, interval, start; last wins
--
-- A candle's event is its interval: ts_event is its start. The symbol stands only in the topic.
SELECT
    line_no,
    symbol,
    epoch_ms_time(candle."start")           AS ts_event,
    ts_recv,
    seq,
    conn,
    pair(symbol, market_of(conn))           AS instrument,
    market_of(conn)                         AS market,
    CASE WHEN regexp_full_match(candle."interval", '[0-9]+') THEN candle."interval" || 'm'
        ELSE '1' || lower(candle."interval") END AS "interval",
    epoch_ms_time(candle."start")           AS "start",
    number(candle.open)                     AS open,
    number(candle.high)                     AS high,
    number(candle.low)                      AS low,
    number(candle.close)                    AS close,
    number(candle.volume)                   AS volume
FROM (
    SELECT *, split_part(frame.topic, '.', 3) AS symbol, unnest(frame.data) AS candle
    FROM (
        SELECT *, from_json(data, '{"topic": "VARCHAR", "data": [{"start": "VARCHAR",
            "end": "VARCHAR", "interval": "VARCHAR", "open": "VARCHAR", "close": "VARCHAR",
            "high": "VARCHAR", "low": "VARCHAR", "volume": "VARCHAR", "turnover": "VARCHAR",
            "confirm": "VARCHAR", "timestamp": "VARCHAR"}]}') AS frame
        FROM frames
        WHERE kind = 'kline'
    )
)
