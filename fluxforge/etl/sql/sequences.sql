-- What was received, per connection: one row for each unbroken run of the venue's numbers.
-- Acknowledgements, heartbeats and quarantined frames count: the numbers run over all of them.
SELECT
    NULL::VARCHAR                           AS symbol,
    arg_min(ts_sent, seq)                   AS ts_event,
    min(ts_recv)                            AS ts_recv,
    min(seq)                                AS seq,
    conn,
    max(seq)                                AS last_seq,
    max(ts_recv)                            AS last_recv,
    sum(frames)::BIGINT                     AS frames
FROM (
    SELECT *, seq - row_number() OVER (PARTITION BY conn ORDER BY seq) AS run
    FROM (
        SELECT conn, seq, min(ts_sent) AS ts_sent, min(ts_recv) AS ts_recv, count(*) AS frames
        FROM classified
        WHERE conn IS NOT NULL AND seq >= 0 AND ts_recv IS NOT NULL
        GROUP BY conn, seq
    )
)
GROUP BY conn, run
