-- One row per price level: the whole book in a snapshot, then each level that changed.
-- takes: l2_data
-- rows: $.events[*].updates
--
-- size is the quantity that now stands at the price; 0 removes the level.
-- Levels of one book belong to one connection: after a reconnect begin again at its snapshot.
-- An update names its product on the event, not on the level.
SELECT
    line_no, ts_recv, seq, conn,
    event.product_id                        AS symbol,
    instant(level.event_time)               AS ts_event,
    CASE level.side WHEN 'bid' THEN 'bid' WHEN 'offer' THEN 'ask' WHEN 'ask' THEN 'ask' END AS side,
    number(level.price_level)               AS price,
    number(level.new_quantity)              AS size,
    event."type" = 'snapshot'               AS is_snapshot,
    position::INTEGER                       AS position
FROM (
    SELECT *, unnest(event.updates) AS level, generate_subscripts(event.updates, 1) - 1 AS position
    FROM (SELECT *, unnest(data.events) AS event FROM frames WHERE kind = 'l2_data')
)
