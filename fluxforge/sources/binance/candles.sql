-- One row per candle as it was when the frame was sent.
-- takes: kline, history_candles
-- rows: $.data.k | $.response
-- unused: e, E, k, T, f, L, n, x, q, V, Q, B
-- key: symbol, interval, start; last wins
--
-- A candle's event is its interval: ts_event is its start. A REST row is [start, open, high, low,
-- close, volume, ...].
SELECT
    line_no, ts_recv, conn, symbol,
    epoch_ms_time(candle[1])                AS ts_event,
    "interval",
    epoch_ms_time(candle[1])                AS "start",
    number(candle[2]) AS open, number(candle[3]) AS high, number(candle[4]) AS low,
    number(candle[5]) AS close, number(candle[6]) AS volume
FROM (
    SELECT *, json_extract_string(data, '$.data.k.s') AS symbol,
        json_extract_string(data, '$.data.k.i') AS "interval",
        json_extract_string(data, ['$.data.k.t', '$.data.k.o', '$.data.k.h', '$.data.k.l',
            '$.data.k.c', '$.data.k.v']) AS candle
    FROM frames WHERE kind = 'kline'
    UNION ALL
    SELECT *, data ->> '$.symbol', data ->> '$.interval',
        unnest(from_json(data -> '$.response', '[["VARCHAR"]]'))
    FROM frames WHERE kind = 'history_candles'
)
