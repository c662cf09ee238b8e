-- One row per trade.
-- takes: trade
-- rows: $.data
-- key: symbol, trade_id; first wins
--
-- side is the taker's. After each subscribe a snapshot repeats the last fifty trades.
SELECT
    line_no,
    trade.symbol                            AS symbol,
    instant(trade."timestamp")              AS ts_event,
    ts_recv,
    whole_number(trade.trade_id)            AS seq,
    conn,
    replace(trade.symbol, '/', '-')         AS instrument,
    'spot'                                  AS market,
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
        FROM frames
        WHERE kind = 'trade'
    )
)
