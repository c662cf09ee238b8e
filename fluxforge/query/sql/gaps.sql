-- What the venue numbered and nobody received: one row per gap.
-- A run begins right behind the one before it, or something between them is missing; the first run
-- of a connection that is numbered as a whole begins at the venue's first number. A restart begins
-- anew, whatever the number before it was; but where it ends a silence, and numbers are missing
-- before it, the silence was a loss.
WITH ordered AS (
    SELECT
        *,
        lag(last_seq) OVER in_time  AS last_before,
        lag(last_recv) OVER in_time AS recv_before,
        is_restart AND coalesce(last_before NOT BETWEEN seq - 1 AND seq, true) AS anew
    FROM sequences
    WINDOW in_time AS (PARTITION BY conn, channel, symbol ORDER BY ts_recv, seq)
),
numbered AS (
    SELECT
        *,
        coalesce(
            max(last_seq) OVER earlier,
            CASE WHEN channel IS NULL THEN $first_sequence - 1 END
        )                                                          AS reached,
        max(last_recv) OVER earlier                                AS before
    FROM (
        SELECT *, count(*) FILTER (anew) OVER (
            PARTITION BY conn, channel, symbol ORDER BY ts_recv, seq
        ) AS epoch
        FROM ordered
    )
    WINDOW earlier AS (
        PARTITION BY conn, channel, symbol, epoch ORDER BY seq, last_seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT
    conn, channel, symbol,
    reached + 1                             AS first_missing,
    seq - 1                                 AS last_missing,
    seq - reached - 1                       AS missing,
    before                                  AS received_before,
    ts_recv                                 AS received_after,
    'number'                                AS known_by
FROM numbered
WHERE seq > reached + 1
UNION ALL
SELECT
    conn, channel, symbol, last_before + 1, seq - 1, seq - last_before - 1,
    recv_before, ts_recv, 'age'
FROM ordered
WHERE anew AND seq > last_before + 1 AND epoch(ts_recv - recv_before) >= $silence
