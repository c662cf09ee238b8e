-- One row per candle as it was when the frame was sent.
-- takes: kline, history_candles
-- rows: $.data | $.response.result.list
-- unused: end, interval, turnover, confirm, timestamp
-- key: market, symbol, interval, start; last wins
--
-- A candle's event is its interval: ts_event is its start. The symbol stands only in the topic. A
-- REST row is [start, open, high, low, close, volume, turnover].
SELECT
    line_no, ts_recv, conn,
    coalesce(nullif(split_part(topic, '.', 3), ''), data ->> '$.symbol') AS symbol,
    epoch_ms_time(candle[1])                AS ts_event,
    interval_of(coalesce(nullif(split_part(topic, '.', 2), ''), data ->> '$.interval')) AS "interval",
    epoch_ms_time(candle[1])                AS "start",
    number(candle[2]) AS open, number(candle[3]) AS high, number(candle[4]) AS low,
    number(candle[5]) AS close, number(candle[6]) AS volume
FROM (
    SELECT * EXCLUDE (candle), json_extract_string(
        candle, ['$.start', '$.open', '$.high', '$.low', '$.close', '$.volume']) AS candle
    FROM (
        SELECT *, data ->> '$.topic' AS topic, unnest(data -> '$.data[*]') AS candle
        FROM frames
        WHERE kind = 'kline'
    )
    UNION ALL
    SELECT *, '' AS topic, unnest(from_json(data -> '$.response.result.list', '[["VARCHAR"]]'))
    FROM frames
    WHERE kind = 'history_candles'
)
