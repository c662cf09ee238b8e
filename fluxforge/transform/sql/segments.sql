-- One row a segment: what was read, and what became of it. lines_read = lines_taken + lines_quarantined.
-- columns: last_recv TIMESTAMPTZ, segment VARCHAR, digest VARCHAR, bytes BIGINT
-- columns: lines_read BIGINT, lines_taken BIGINT, lines_quarantined BIGINT, rows VARCHAR
-- columns: frames VARCHAR, unknown_fields VARCHAR, processed_at TIMESTAMPTZ
SELECT
    NULL::VARCHAR                           AS symbol,
    (SELECT min(ts_sent) FROM classified)   AS ts_event,
    coalesce((SELECT min(ts_recv) FROM classified), $processed_at) AS ts_recv,
    NULL::BIGINT                            AS seq,
    NULL::VARCHAR                           AS conn,
    (SELECT max(ts_recv) FROM classified)   AS last_recv,
    $segment::VARCHAR                       AS segment,
    $digest::VARCHAR                        AS digest,
    $bytes::BIGINT                          AS bytes,
    $lines_read::BIGINT                     AS lines_read,
    $lines_taken::BIGINT                    AS lines_taken,
    $lines_quarantined::BIGINT              AS lines_quarantined,
    $rows::VARCHAR                          AS "rows",
    $frames::VARCHAR                        AS frames,
    $unknown_fields::VARCHAR                AS unknown_fields,
    $processed_at::TIMESTAMPTZ              AS processed_at
