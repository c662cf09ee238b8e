-- One row per trade; side is the taker's.
-- takes: publicTrade
-- rows: $.data
-- unused: L, BT, RPI, seq
-- key: market, symbol, trade_id; first wins
-- columns: trade_id VARCHAR
--
-- s and S are different fields, which a DuckDB struct cannot tell apart: paths can.
SELECT
    line_no,
    trade[1]                                AS symbol,
    epoch_ms_time(trade[2])                 AS ts_event,
    ts_recv,
    whole_number(trade[3])                  AS seq,
    conn,
    pair(trade[1], market_of(conn))         AS instrument,
    market_of(conn)                         AS market,
    trade[4]                                AS trade_id,
    number(trade[5])                        AS price,
    number(trade[6])                        AS size,
    CASE trade[7] WHEN 'Buy' THEN 'buy' WHEN 'Sell' THEN 'sell' END AS side,
    false                                   AS is_snapshot
FROM (
    SELECT
        * EXCLUDE (seq, trade),
        json_extract_string(trade, ['$.s', '$.T', '$.seq', '$.i', '$.p', '$.v', '$.S']) AS trade
    FROM (
        SELECT *, unnest(json_extract(data, '$.data[*]')) AS trade
        FROM frames
        WHERE kind = 'publicTrade'
    )
)
