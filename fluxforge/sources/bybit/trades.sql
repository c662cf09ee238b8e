-- One row per trade; side is the taker's.
-- takes: publicTrade, history_trades
-- rows: $.data | $.response.result.list
-- unused: L, BT, RPI, seq, mP, iP, mIv, iv
-- key: market, symbol, trade_id; first wins
-- columns: trade_id VARCHAR
--
-- s and S are different fields, which a DuckDB struct cannot tell apart: paths can.
SELECT
    line_no, ts_recv, conn,
    trade[1]                                AS symbol,
    epoch_ms_time(trade[2])                 AS ts_event,
    whole_number(trade[3])                  AS seq,
    trade[4]                                AS trade_id,
    number(trade[5])                        AS price,
    number(trade[6])                        AS size,
    CASE trade[7] WHEN 'Buy' THEN 'buy' WHEN 'Sell' THEN 'sell' END AS side,
    false                                   AS is_snapshot
FROM (
    SELECT line_no, ts_recv, conn, json_extract_string(
        trade, ['$.s', '$.T', '$.seq', '$.i', '$.p', '$.v', '$.S']) AS trade
    FROM (SELECT *, unnest(data -> '$.data[*]') AS trade FROM frames WHERE kind = 'publicTrade')
    UNION ALL
    SELECT line_no, ts_recv, conn, json_extract_string(
        trade, ['$.symbol', '$.time', '$.seq', '$.execId', '$.price', '$.size', '$.side'])
    FROM (
        SELECT *, unnest(data -> '$.response.result.list[*]') AS trade
        FROM frames
        WHERE kind = 'history_trades'
    )
)
