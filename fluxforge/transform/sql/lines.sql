    -- The lines of one part of a segment, numbered from where it begins.
    SELECT
        $before + row_number() OVER ()                   AS line_no,
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
