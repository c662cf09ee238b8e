-- What was received: one row per unbroken run of the venue's numbers. They run over a connection,
-- or where symbol and channel are given, over the frames of that symbol and channel.
-- Acknowledgements, heartbeats and quarantined frames count, where numbers run over all of them.
-- columns: channel VARCHAR, last_seq BIGINT, last_recv TIMESTAMPTZ, frames BIGINT
-- columns: is_restart BOOLEAN
-- Each segment's lines make rows of their own.
SELECT
    file,
    run_symbol                              AS symbol,
    arg_min(ts_sent, run_first)             AS ts_event,
    min(ts_recv)                            AS ts_recv,
    min(run_first)                          AS seq,
    conn,
    run_channel                             AS channel,
    max(run_last)                           AS last_seq,
    max(last_recv)                          AS last_recv,
    sum(frames)::BIGINT                     AS frames,
    bool_or(restarts)                       AS is_restart
FROM (
    SELECT *, count(*) FILTER (run_first - 1 > reached) OVER (
        PARTITION BY file, conn, run_channel, run_symbol, epoch ORDER BY run_first, run_last
    ) AS run
    FROM (
        SELECT *, max(run_last) OVER (
            PARTITION BY file, conn, run_channel, run_symbol, epoch ORDER BY run_first, run_last
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached
        FROM (
            SELECT
                file, conn, run_channel, run_symbol, epoch, run_first, run_last,
                min(ts_sent) AS ts_sent, min(ts_recv) AS ts_recv, max(last_recv) AS last_recv,
                sum(frames) AS frames, bool_or(restarts) AS restarts
            FROM (
                -- A restart begins anew, whatever the number before it was, unless it goes on.
                SELECT * REPLACE (restarts AND coalesce(before NOT BETWEEN run_first - 1 AND run_first, true) AS restarts),
                    count(*) FILTER (restarts) OVER (
                    PARTITION BY file, conn, run_channel, run_symbol ORDER BY line_no
                ) AS epoch
                FROM (
                    SELECT *, lag(run_last) OVER (
                        PARTITION BY file, conn, run_channel, run_symbol ORDER BY line_no
                    ) AS before
                    FROM (
                        -- Lines that follow one another are one run at once: windows over all cost much.
                        SELECT
                            file, conn, run_channel, run_symbol,
                            min(line_no) AS line_no, min(run_first) AS run_first, max(run_last) AS run_last,
                            arg_min(ts_sent, run_first) AS ts_sent, min(ts_recv) AS ts_recv,
                            max(ts_recv) AS last_recv, count(*) AS frames, bool_or(restarts) AS restarts
                        FROM (
                            SELECT *, count(*) FILTER (NOT follows) OVER (ROWS UNBOUNDED PRECEDING) AS stretch
                            FROM (
                                SELECT *, coalesce(
                                    NOT restarts AND run_first - 1 = lag(run_last) OVER ()
                                    AND file = lag(file) OVER () AND conn = lag(conn) OVER ()
                                    AND run_channel IS NOT DISTINCT FROM lag(run_channel) OVER ()
                                    AND run_symbol IS NOT DISTINCT FROM lag(run_symbol) OVER (), false
                                ) AS follows
                                FROM classified
                                WHERE conn IS NOT NULL AND run_first >= 0 AND run_last >= run_first
                                    AND ts_recv IS NOT NULL
                            )
                        )
                        GROUP BY stretch, file, conn, run_channel, run_symbol
                    )
                )
            )
            GROUP BY ALL
        )
    )
)
GROUP BY file, conn, run_channel, run_symbol, epoch, run
