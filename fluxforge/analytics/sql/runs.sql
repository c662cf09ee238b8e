-- Unbroken runs of what a venue numbers: one row per connection, scope and run, over all segments.
-- A segment's own runs continue each other where no number is missing between them.
SELECT
    conn,
    channel,
    symbol,
    min(seq)                AS first_seq,
    max(last_seq)           AS last_seq,
    min(ts_recv)            AS start,
    max(last_recv)          AS "end"
FROM (
    SELECT *, count(*) FILTER (seq > reached + 1) OVER (
        PARTITION BY conn, channel, symbol, epoch ORDER BY seq, last_seq
    ) AS run
    FROM (
        SELECT *, max(last_seq) OVER (
            PARTITION BY conn, channel, symbol, epoch ORDER BY seq, last_seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached
        FROM (
            SELECT *, count(*) FILTER (is_restart) OVER (
                PARTITION BY conn, channel, symbol ORDER BY ts_recv
            ) AS epoch
            FROM sequences
        )
    )
)
GROUP BY conn, channel, symbol, epoch, run
ORDER BY conn, start
