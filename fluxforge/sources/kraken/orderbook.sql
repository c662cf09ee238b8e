-- One row per price level: the whole book in a snapshot, then each level that changed.
-- takes: book
-- rows: $.data
--
-- size is the quantity that now stands at the price; 0 removes the level. Levels that fall below
-- the subscribed depth are not removed by the venue: a book is cut to the depth of its snapshot
-- after each frame. checksum is of the ten best levels a side, as the venue computed it.
SELECT
    line_no, ts_recv, conn,
    book.symbol                             AS symbol,
    instant(book."timestamp")               AS ts_event,
    level.side                              AS side,
    number(level.price)                     AS price,
    number(level.qty)                       AS size,
    "type" = 'snapshot'                     AS is_snapshot,
    position::INTEGER                       AS position,
    whole_number(book.checksum)             AS checksum
FROM (
    SELECT *, unnest(levels) AS level, generate_subscripts(levels, 1) - 1 AS position
    FROM (
        SELECT *, list_concat(
            list_transform(book.bids, lambda l: {side: 'bid', price: l.price, qty: l.qty}),
            list_transform(book.asks, lambda l: {side: 'ask', price: l.price, qty: l.qty})) AS levels
        FROM (
            SELECT * EXCLUDE (frame), frame."type" AS "type", unnest(frame.data) AS book
            FROM (
                SELECT *, from_json(data, '{"type": "VARCHAR", "data": [{"symbol": "VARCHAR",
                    "bids": [{"price": "VARCHAR", "qty": "VARCHAR"}],
                    "asks": [{"price": "VARCHAR", "qty": "VARCHAR"}],
                    "checksum": "VARCHAR", "timestamp": "VARCHAR"}]}') AS frame
                FROM frames WHERE kind = 'book'
            )
        )
    )
)
