-- One row per price level: the whole book in the REST answer, then each level that changed.
-- takes: depthUpdate, depth
-- rows: $.data.b | $.response.bids
-- unused: e, E, U, u
--
-- size is the quantity that now stands at the price; 0 removes the level. seq is the number of the
-- last change that a frame holds: a change is part of a book if its number is above the answer's,
-- whichever of the two was received first. The answer has no time of its own.
SELECT
    line_no,
    symbol,
    ts_sent                                 AS ts_event,
    ts_recv,
    seq,
    conn,
    pair(symbol)                            AS instrument,
    'spot'                                  AS market,
    level.side                              AS side,
    number(level.price)                     AS price,
    number(level.qty)                       AS size,
    kind = 'depth'                          AS is_snapshot,
    position::INTEGER                       AS position,
    NULL::BIGINT                            AS checksum
FROM (
    SELECT *, unnest(levels) AS level, generate_subscripts(levels, 1) - 1 AS position
    FROM (
        SELECT
            * EXCLUDE (seq),
            coalesce(seq, whole_number(frame.response.lastUpdateId)) AS seq,
            coalesce(frame.depth, frame.data.s) AS symbol,
            list_transform(coalesce(frame.response.bids, frame.data.b), lambda l: {side: 'bid', price: l[1], qty: l[2]})
            || list_transform(coalesce(frame.response.asks, frame.data.a), lambda l: {side: 'ask', price: l[1], qty: l[2]}) AS levels
        FROM (
            SELECT *, from_json(data, '{"depth": "VARCHAR",
                "data": {"s": "VARCHAR", "b": [["VARCHAR"]], "a": [["VARCHAR"]]},
                "response": {"lastUpdateId": "VARCHAR", "bids": [["VARCHAR"]], "asks": [["VARCHAR"]]}
                }') AS frame
            FROM frames
            WHERE kind IN ('depthUpdate', 'depth')
        )
    )
)
