-- What the venue says of each product: whether it trades, and in which steps.
-- takes: status
-- rows: $.events[*].products
SELECT
    line_no, ts_recv, seq, conn,
    product.id                              AS symbol,
    ts_sent                                 AS ts_event,
    product.product_type, product.base_currency, product.quote_currency,
    number(product.base_increment)          AS base_increment,
    number(product.quote_increment)         AS quote_increment,
    product.display_name, product.status, nullif(product.status_message, '') AS status_message,
    number(product.min_market_funds)        AS min_market_funds
FROM (
    SELECT *, unnest(event.products) AS product
    FROM (SELECT *, unnest(data.events) AS event FROM frames WHERE kind = 'status')
)
