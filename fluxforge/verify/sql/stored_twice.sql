-- Numbers of one connection that are stored more than once.
SELECT conn, seq, last_seq
FROM (
    SELECT
        *,
        max(last_seq) OVER (
            PARTITION BY conn ORDER BY seq, last_seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached
    FROM sequences
    WHERE symbol IS NULL
)
WHERE seq <= reached OR frames > last_seq - seq + 1
ORDER BY conn, seq
