-- The lines of some files, in the order of the files and of their lines.
CREATE OR REPLACE TEMP TABLE read_lines AS
SELECT
    ($first + file_index)::BIGINT                    AS file,
    capture_ns,
    conn,
    raw IS NOT NULL OR raw_base64 IS NOT NULL        AS is_raw,
    $data
FROM read_json(
    $paths,
    format = 'newline_delimited',
    columns = {capture_ns: 'BIGINT', conn: 'VARCHAR', data: $type, raw: 'VARCHAR', raw_base64: 'VARCHAR'},
    ignore_errors = true,
    maximum_object_size = $longest
)
