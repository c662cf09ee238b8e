-- Unbroken runs of what a venue numbers: one row per connection, scope and run, over all segments.
-- A segment's own runs continue each other where no number is missing between them.
SELECT
    conn,
    symbol,
    min(seq)                AS first_seq,
    max(last_seq)           AS last_seq,
    min(ts_recv)            AS start,
    max(last_recv)          AS "end"
FROM (
    SELECT *, count(*) FILTER (seq > reached + 1) OVER (PARTITION BY conn, symbol ORDER BY seq, last_seq) AS run
    FROM (
        SELECT
            *,
            max(last_seq) OVER (
                PARTITION BY conn, symbol ORDER BY seq, last_seq
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS reached
        FROM sequences
    )
)
GROUP BY conn, symbol, run
ORDER BY conn, symbol, start
