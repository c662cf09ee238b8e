-- One row per trade.
-- takes: trade, history_trades
-- rows: $.data | $.response.result
-- key: symbol, trade_id; first wins
--
-- side is the taker's. After each subscribe a snapshot repeats the last fifty trades. A REST row is
-- [price, volume, time in seconds, b | s, l | m, misc, trade_id].
SELECT
    line_no, ts_recv, conn,
    trade.symbol                            AS symbol,
    instant(trade."timestamp")              AS ts_event,
    whole_number(trade.trade_id)            AS seq,
    whole_number(trade.trade_id)            AS trade_id,
    number(trade.price)                     AS price,
    number(trade.qty)                       AS size,
    CASE WHEN trade.side IN ('buy', 'sell') THEN trade.side END AS side,
    "type" = 'snapshot'                     AS is_snapshot
FROM (
    SELECT *, frame."type" AS "type", unnest(frame.data) AS trade
    FROM (
        SELECT *, from_json(data, '{"type": "VARCHAR", "data": [{"symbol": "VARCHAR",
            "side": "VARCHAR", "price": "VARCHAR", "qty": "VARCHAR", "ord_type": "VARCHAR",
            "trade_id": "VARCHAR", "timestamp": "VARCHAR"}]}') AS frame
        FROM frames WHERE kind = 'trade'
    )
)
UNION ALL BY NAME
SELECT
    line_no, ts_recv, conn, symbol, to_timestamp(number(row[3])) AS ts_event,
    whole_number(row[7]) AS seq, whole_number(row[7]) AS trade_id, number(row[1]) AS price,
    number(row[2]) AS size, CASE row[4] WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' END AS side,
    false AS is_snapshot
FROM (
    SELECT *, data ->> '$.symbol' AS symbol,
        unnest(from_json(json_extract(data, '$.response.result.*')[1], '[["VARCHAR"]]')) AS row
    FROM frames WHERE kind = 'history_trades'
)
