-- What the venue numbered and nobody received, per connection.
-- A run begins right behind the one before it, or something between them is missing;
-- the first run of a connection begins at the venue's first number.
SELECT
    conn,
    reached + 1                             AS first_missing,
    seq - 1                                 AS last_missing,
    seq - reached - 1                       AS missing,
    before                                  AS received_before,
    ts_recv                                 AS received_after
FROM (
    SELECT
        *,
        coalesce(max(last_seq) OVER earlier, $first_sequence - 1)  AS reached,
        max(last_recv) OVER earlier                                AS before
    FROM sequences
    WINDOW earlier AS (
        PARTITION BY conn ORDER BY seq, last_seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
WHERE seq > reached + 1
ORDER BY received_after, conn, first_missing
