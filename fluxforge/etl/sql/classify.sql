-- Read a segment once: every line becomes a row, with the reason if no table can take it.
-- The words that begin with a dollar sign are filled in: the file, the longest line in it, and
-- the source's own frames.sql, control frames and channels.
CREATE OR REPLACE TEMP TABLE classified AS
WITH lines AS (
    SELECT
        row_number() OVER ()                             AS line_no,
        capture_ns,
        conn,
        data,
        raw IS NOT NULL OR raw_base64 IS NOT NULL        AS is_raw
    FROM read_json(
        $path,
        format = 'newline_delimited',
        columns = {capture_ns: 'BIGINT', conn: 'VARCHAR', data: 'JSON', raw: 'VARCHAR', raw_base64: 'VARCHAR'},
        ignore_errors = true,
        maximum_object_size = $longest
    )
),
parsed AS (
$frames
)
SELECT
    line_no,
    CASE WHEN capture_ns BETWEEN 1 AND $latest_ns THEN capture_time(capture_ns) END AS ts_recv,
    conn,
    kind,
    seq,
    ts_sent,
    data,
    CASE
        WHEN capture_ns IS NULL AND conn IS NULL AND data IS NULL AND NOT is_raw
            THEN 'the line is not a JSON object'
        WHEN capture_ns IS NULL OR capture_ns NOT BETWEEN 1 AND $latest_ns
            THEN 'no capture time'
        WHEN conn IS NULL
            THEN 'no connection'
        WHEN is_raw
            THEN 'the frame is not JSON on one line'
        WHEN data IS NULL
            THEN 'no frame'
        WHEN kind IS NULL
            THEN 'the frame names no channel'
        WHEN list_contains($control, kind)
            THEN NULL
$channels
        ELSE 'unknown channel: ' || kind
    END AS reason
FROM parsed
