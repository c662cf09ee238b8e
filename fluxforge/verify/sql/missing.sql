-- How many frames the venue numbered and nobody received, and on how many connections.
SELECT count(DISTINCT conn), coalesce(sum(seq - reached - 1), 0)::BIGINT
FROM (
    SELECT
        conn,
        seq,
        coalesce(max(last_seq) OVER (
            PARTITION BY conn ORDER BY seq, last_seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), $first_sequence - 1) AS reached
    FROM sequences
    WHERE symbol IS NULL
)
WHERE seq > reached + 1
