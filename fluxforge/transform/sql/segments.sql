-- One row a segment: what was read, and what became of it. lines_read = lines_taken + lines_quarantined.
-- columns: last_recv TIMESTAMPTZ, segment VARCHAR, digest VARCHAR, bytes BIGINT
-- columns: lines_read BIGINT, lines_taken BIGINT, lines_quarantined BIGINT, rows VARCHAR
-- columns: frames VARCHAR, unknown_fields VARCHAR, processed_at TIMESTAMPTZ
SELECT
    NULL::VARCHAR                           AS symbol,
    first_sent                              AS ts_event,
    coalesce(first_recv, processed_at)      AS ts_recv,
    NULL::BIGINT                            AS seq,
    NULL::VARCHAR                           AS conn,
    last_recv,
    segment,
    digest,
    bytes,
    lines_read,
    lines_taken,
    lines_quarantined,
    "rows",
    frames,
    unknown_fields,
    processed_at,
    CAST(coalesce(first_recv, processed_at) AS DATE) AS date
FROM accounts
