-- One row per change of the best quotes (bookTicker), or per second (24hrTicker). Not trades.
-- takes: bookTicker, 24hrTicker
-- rows: $.data
-- unused: e, E, u, p, w, x, Q, o, q, O, C, F, L, n
--
-- A bookTicker has no time and no last price: those columns are null.
SELECT
    line_no,
    ticker[1]                               AS symbol,
    ts_sent                                 AS ts_event,
    ts_recv,
    seq,
    conn,
    pair(ticker[1])                         AS instrument,
    'spot'                                  AS market,
    number(ticker[2])                       AS price,
    number(ticker[3])                       AS best_bid,
    number(ticker[4])                       AS best_bid_size,
    number(ticker[5])                       AS best_ask,
    number(ticker[6])                       AS best_ask_size,
    number(ticker[7])                       AS volume_24h,
    number(ticker[8])                       AS low_24h,
    number(ticker[9])                       AS high_24h,
    NULL::DOUBLE                            AS low_52w,
    NULL::DOUBLE                            AS high_52w,
    number(ticker[10])                      AS change_24h_percent,
    false                                   AS is_snapshot
FROM (
    SELECT *, json_extract_string(data, [
        '$.data.s', '$.data.c', '$.data.b', '$.data.B', '$.data.a', '$.data.A',
        '$.data.v', '$.data.l', '$.data.h', '$.data.P'
    ]) AS ticker
    FROM frames
    WHERE kind IN ('bookTicker', '24hrTicker')
)
