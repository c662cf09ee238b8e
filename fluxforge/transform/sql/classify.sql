-- Every line becomes a row, with the reason if no table can take it.
-- The words that begin with a dollar sign are filled in: the lines (lines.sql), and the source's
-- own frames.sql, control frames, channels and the places of their rows.
CREATE OR REPLACE TEMP TABLE part AS
WITH lines AS (
$lines),
parsed AS (
$frames
),
typed AS (
    -- What stands where rows come from, found in one pass over each frame.
    SELECT *, json_type(data, $places) AS types
    FROM parsed
)
SELECT
    line_no,
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
    CASE
        WHEN capture_ns IS NULL AND conn IS NULL AND data IS NULL AND NOT is_raw
            THEN 'the line is not a JSON object with a frame'
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
        ELSE 'unknown channel: ' || left(kind, 100)
    END AS reason
FROM typed
