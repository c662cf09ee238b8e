-- One row per price level: the whole book in the REST answer, then each level that changed.
-- takes: depthUpdate, depth, depth5, depth10, depth20
-- rows: $.data.b | $.response.bids | $.data.bids
-- unused: e, E, U, u
--
-- size is the quantity that now stands at the price; 0 removes the level. seq is the number of the
-- last change that a frame holds: a change is part of a book if its number is above the answer's,
-- whichever of the two was received first. The answer has no time of its own; nor has a partial
-- book (depth20), which is whole to its depth.
SELECT
    line_no, ts_recv, seq, conn, symbol,
    ts_sent                                 AS ts_event,
    level.side                              AS side,
    number(level.price)                     AS price,
    number(level.qty)                       AS size,
    kind <> 'depthUpdate'                   AS is_snapshot,
    position::INTEGER                       AS position
FROM (
    SELECT *, unnest(levels) AS level, generate_subscripts(levels, 1) - 1 AS position
    FROM (
        SELECT * EXCLUDE (seq), coalesce(seq, whole_number(frame.response.lastUpdateId)) AS seq,
            coalesce(frame.depth, run_symbol) AS symbol,
            book_levels(coalesce(frame.response.bids, frame.data.b, frame.data.bids),
                coalesce(frame.response.asks, frame.data.a, frame.data.asks)) AS levels
        FROM (
            SELECT *, from_json(data, '{"depth": "VARCHAR",
                "data": {"b": [["VARCHAR"]], "a": [["VARCHAR"]], "s": "VARCHAR",
                    "lastUpdateId": "VARCHAR", "bids": [["VARCHAR"]], "asks": [["VARCHAR"]]},
                "response": {"lastUpdateId": "VARCHAR", "bids": [["VARCHAR"]], "asks": [["VARCHAR"]]}
                }') AS frame
            FROM frames WHERE kind IN ('depthUpdate', 'depth', 'depth5', 'depth10', 'depth20')
        )
    )
)
