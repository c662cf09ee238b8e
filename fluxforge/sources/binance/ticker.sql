-- One row per change of the best quotes (bookTicker), or per second of the last price and the day
-- (24hrTicker, 24hrMiniTicker). Not trades.
-- takes: bookTicker, 24hrTicker, 24hrMiniTicker
-- rows: $.data
-- words: "B"
-- unused: e, E, u, p, w, x, Q, o, q, O, C, F, L, n
--
-- A bookTicker has no time and no last price: those columns are null.
SELECT
    line_no, ts_recv, seq, conn,
    ticker[1]                               AS symbol,
    ts_sent                                 AS ts_event,
    number(ticker[2])                       AS price,
    number(ticker[3]) AS best_bid, number(ticker[4]) AS best_bid_size,
    number(ticker[5]) AS best_ask, number(ticker[6]) AS best_ask_size,
    number(ticker[7])                       AS volume_24h,
    number(ticker[8]) AS low_24h, number(ticker[9]) AS high_24h,
    number(ticker[10])                      AS change_24h_percent,
    false                                   AS is_snapshot
FROM (
    SELECT *, json_extract_string(
        data, ['$.s', '$.c', '$.b', '$.B', '$.a', '$.A', '$.v', '$.l', '$.h', '$.P']) AS ticker
    FROM (
        -- The streams of all products send lists.
        SELECT * REPLACE (unnest(CASE json_type(data, '$.data') WHEN 'ARRAY'
            THEN data -> '$.data[*]' ELSE [data -> '$.data'] END) AS data)
        FROM frames WHERE kind IN ('bookTicker', '24hrTicker', '24hrMiniTicker')
    )
)
