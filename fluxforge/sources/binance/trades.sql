-- One row per trade: an aggTrade is one order's trades at one price, a trade is one of them.
-- takes: aggTrade, trade, history_trades
-- rows: $.data | $.response
-- unused: e, E, a, t, f, l, M, b, X
-- key: symbol, trade_id; first wins
--
-- Fields that differ by their case alone are read by paths. m tells whether the buyer was the maker:
-- then the aggressor sold.
SELECT
    line_no, ts_recv, conn,
    trade[1]                                AS symbol,
    epoch_ms_time(trade[2])                 AS ts_event,
    whole_number(trade_id)                  AS seq,
    whole_number(trade_id)                  AS trade_id,
    number(trade[3])                        AS price,
    number(trade[4])                        AS size,
    CASE trade[5] WHEN 'true' THEN 'sell' WHEN 'false' THEN 'buy' END AS side,
    false                                   AS is_snapshot
FROM (
    SELECT *, CASE kind WHEN 'trade' THEN trade[7] ELSE trade[6] END AS trade_id
    FROM (
        SELECT *, json_extract_string(data, [
            '$.data.s', '$.data.T', '$.data.p', '$.data.q', '$.data.m', '$.data.a', '$.data.t'
        ]) AS trade
        FROM frames WHERE kind IN ('aggTrade', 'trade')
        UNION ALL
        SELECT * REPLACE (list_prepend(data ->> '$.symbol', json_extract_string(
            trade, ['$.T', '$.p', '$.q', '$.m', '$.a'])) AS trade)
        FROM (SELECT *, unnest(data -> '$.response[*]') AS trade FROM frames WHERE kind = 'history_trades')
    )
)
