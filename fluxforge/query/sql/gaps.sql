-- What the venue numbered and nobody received: one row per gap.
-- A run begins right behind the one before it, or something between them is missing; the first run
-- of a connection that is numbered as a whole begins at the venue's first number. A restart begins
-- anew, whatever the number before it was.
SELECT
    conn,
    channel,
    symbol,
    reached + 1                             AS first_missing,
    seq - 1                                 AS last_missing,
    seq - reached - 1                       AS missing,
    before                                  AS received_before,
    ts_recv                                 AS received_after,
    'number'                                AS known_by
FROM (
    SELECT
        *,
        coalesce(
            max(last_seq) OVER earlier,
            CASE WHEN channel IS NULL THEN $first_sequence - 1 END
        )                                                          AS reached,
        max(last_recv) OVER earlier                                AS before
    FROM (
        SELECT *, count(*) FILTER (is_restart) OVER (
            PARTITION BY conn, channel, symbol ORDER BY ts_recv
        ) AS epoch
        FROM sequences
    )
    WINDOW earlier AS (
        PARTITION BY conn, channel, symbol, epoch ORDER BY seq, last_seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
WHERE seq > reached + 1
ORDER BY received_after, conn, first_missing
