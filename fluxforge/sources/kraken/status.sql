-- What the venue says of each pair: whether it trades, and in which steps.
-- takes: instrument
-- rows: $.data.pairs
-- unused: assets, pairs, qty_precision, price_precision, cost_precision, marginable, has_index, tick_size, qty_min, margin_initial, position_limit_long, position_limit_short
SELECT
    line_no, ts_recv, conn,
    pair.symbol                             AS symbol,
    pair.base                               AS base_currency,
    pair.quote                              AS quote_currency,
    number(pair.qty_increment)              AS base_increment,
    number(pair.price_increment)            AS quote_increment,
    pair.symbol                             AS display_name,
    pair.status                             AS status,
    number(pair.cost_min)                   AS min_market_funds
FROM (
    SELECT *, unnest(from_json(data, '{"data": {"pairs": [{"symbol": "VARCHAR", "base": "VARCHAR",
        "quote": "VARCHAR", "qty_increment": "VARCHAR", "price_increment": "VARCHAR",
        "status": "VARCHAR", "cost_min": "VARCHAR"}]}}').data.pairs) AS pair
    FROM frames WHERE kind = 'instrument'
)
