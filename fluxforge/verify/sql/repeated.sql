-- On how many connections the venue gave numbers more than once, and to how many frames.
SELECT count(DISTINCT conn) FILTER (repeats > 0), coalesce(sum(repeats), 0)::BIGINT
FROM (
    SELECT
        conn,
        frames - (last_seq - seq + 1) + CASE
            WHEN max(last_seq) OVER earlier >= seq
            THEN least(max(last_seq) OVER earlier, last_seq) - seq + 1
            ELSE 0
        END AS repeats
    FROM sequences
    WHERE symbol IS NULL
    WINDOW earlier AS (
        PARTITION BY conn, channel ORDER BY seq, last_seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
