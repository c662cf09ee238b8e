    -- What lines.sql returns, for a segment without a line.
    SELECT
        NULL::BIGINT                                     AS line_no,
        NULL::BIGINT                                     AS capture_ns,
        NULL::VARCHAR                                    AS conn,
        NULL::JSON                                       AS data,
        NULL::BOOLEAN                                    AS is_raw
    LIMIT 0
