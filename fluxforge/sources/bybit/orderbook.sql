-- One row per price level: the whole book in a snapshot, then each level that changed.
-- takes: orderbook
-- rows: $.data.b
--
-- size is the quantity that now stands at the price; 0 removes the level. seq runs without a hole
-- per topic; a snapshot in between begins anew. ts_event is the time of the matching engine.
SELECT
    line_no, ts_recv, seq, conn,
    frame.data.s                            AS symbol,
    epoch_ms_time(coalesce(frame.cts, frame.ts)) AS ts_event,
    level.side                              AS side,
    number(level.price)                     AS price,
    number(level.qty)                       AS size,
    restarts                                AS is_snapshot,
    position::INTEGER                       AS position
FROM (
    SELECT *, unnest(levels) AS level, generate_subscripts(levels, 1) - 1 AS position
    FROM (
        SELECT *, book_levels(frame.data.b, frame.data.a) AS levels
        FROM (
            SELECT *, from_json(data, '{"ts": "VARCHAR", "cts": "VARCHAR",
                "data": {"s": "VARCHAR", "b": [["VARCHAR"]], "a": [["VARCHAR"]], "u": "VARCHAR",
                "seq": "VARCHAR"}}') AS frame
            FROM frames
            WHERE kind = 'orderbook'
        )
    )
)
