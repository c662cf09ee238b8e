-- One row per candle as it was when the frame was sent.
-- takes: kline
-- rows: $.data.k
-- unused: e, E, T, f, L, n, x, q, V, Q, B
-- key: symbol, interval, start; last wins
--
-- A candle's event is its interval: ts_event is its start.
SELECT
    line_no,
    candle.s                                AS symbol,
    epoch_ms_time(candle.t)                 AS ts_event,
    ts_recv,
    seq,
    conn,
    pair(candle.s)                          AS instrument,
    'spot'                                  AS market,
    candle.i                                AS "interval",
    epoch_ms_time(candle.t)                 AS "start",
    number(candle.o)                        AS open,
    number(candle.h)                        AS high,
    number(candle.l)                        AS low,
    number(candle.c)                        AS close,
    number(candle.v)                        AS volume
FROM (
    SELECT *, from_json(data, '{"data": {"k": {"t": "VARCHAR", "s": "VARCHAR", "i": "VARCHAR",
        "o": "VARCHAR", "c": "VARCHAR", "h": "VARCHAR", "l": "VARCHAR", "v": "VARCHAR"}}}').data.k AS candle
    FROM frames
    WHERE kind = 'kline'
)
