-- The lines of some files, in the order of the files and of their lines, each with the reason if no
-- table can take it. The words that begin with a dollar sign are filled in: the source's own
-- frames.sql, its control frames, and its channels. json is the frame's text where the lines are
-- read with care.
WITH lines AS (
    SELECT
        ($number)::BIGINT                           AS file,
        capture_ns,
        conn,
        raw IS NOT NULL OR raw_base64 IS NOT NULL   AS is_raw,
        $data
    FROM read_json(
        $paths,
        format = 'newline_delimited',
        columns = {
            $key: 'BIGINT', capture_ns: 'BIGINT', conn: 'VARCHAR', data: $type, raw: 'VARCHAR',
            raw_base64: 'VARCHAR'
        },
        ignore_errors = true,
        maximum_object_size = $longest
    )
),
parsed AS (
$frames
)
SELECT
    file,
    CASE WHEN capture_ns BETWEEN 1 AND $latest_ns THEN capture_time(capture_ns) END AS ts_recv,
    conn,
    kind,
    seq,
    run_first,
    run_last,
    run_channel,
    run_symbol,
    restarts,
    ts_sent,
    data,
    json,
    CASE
        WHEN capture_ns IS NULL AND conn IS NULL AND data IS NULL AND NOT is_raw
            THEN 'the line is not a JSON object with a frame'
        WHEN capture_ns IS NULL OR capture_ns NOT BETWEEN 1 AND $latest_ns
            THEN 'no capture time'
        WHEN conn IS NULL
            THEN 'no connection'
        WHEN is_raw
            THEN 'the frame is not a JSON object on one line'
        WHEN data IS NULL
            THEN 'no frame'
        WHEN kind IS NULL
            THEN 'the frame names no channel'
        WHEN list_contains($control, kind)
            THEN NULL
$channels
        ELSE 'unknown channel: ' || left(kind, 100)
    END AS reason
FROM parsed
