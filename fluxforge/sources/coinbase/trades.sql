-- One row per trade.
-- takes: market_trades, history_trades
-- rows: $.events[*].trades | $.response.trades
-- key: symbol, trade_id; first wins
--
-- The venue prints the maker's side; the aggressor is the other one.
-- After each subscribe a snapshot repeats the last hundred trades.
SELECT
    line_no, ts_recv, seq, conn,
    trade.product_id                        AS symbol,
    instant(trade."time")                   AS ts_event,
    whole_number(trade.trade_id)            AS trade_id,
    number(trade.price)                     AS price,
    number(trade.size)                      AS size,
    CASE trade.side WHEN 'SELL' THEN 'buy' WHEN 'BUY' THEN 'sell' END AS side,
    coalesce(kind_of_event = 'snapshot', false) AS is_snapshot
FROM (
    SELECT *, unnest(event.trades) AS trade, event."type" AS kind_of_event
    FROM (SELECT *, unnest(data.events) AS event FROM frames WHERE kind = 'market_trades')
    UNION ALL BY NAME
    SELECT *, unnest(from_json(data.response, '{"trades": [{
            "product_id": "VARCHAR", "trade_id": "VARCHAR", "price": "VARCHAR",
            "size": "VARCHAR", "time": "VARCHAR", "side": "VARCHAR"}]}').trades) AS trade
    FROM frames WHERE kind = 'history_trades'
)
