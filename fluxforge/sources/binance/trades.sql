-- One row per trade: an aggTrade is one order's trades at one price, a trade is one of them.
-- takes: aggTrade, trade
-- rows: $.data
-- unused: e, E, a, t, f, l, M
-- key: symbol, trade_id; first wins
--
-- Fields that differ by their case alone are read by paths. m tells whether the buyer was the maker: then the aggressor sold.
SELECT
    line_no,
    trade[1]                                AS symbol,
    epoch_ms_time(trade[2])                 AS ts_event,
    ts_recv,
    seq,
    conn,
    pair(trade[1])                          AS instrument,
    'spot'                                  AS market,
    seq                                     AS trade_id,
    number(trade[3])                        AS price,
    number(trade[4])                        AS size,
    CASE trade[5] WHEN 'true' THEN 'sell' WHEN 'false' THEN 'buy' END AS side,
    false                                   AS is_snapshot
FROM (
    SELECT *, json_extract_string(data, ['$.data.s', '$.data.T', '$.data.p', '$.data.q', '$.data.m']) AS trade
    FROM frames
    WHERE kind IN ('aggTrade', 'trade')
)
