-- Frames that are stored more than once: runs of a connection that share numbers and time. A venue
-- that repeats a number does so later; the same frame has the same time.
SELECT DISTINCT one.conn, greatest(one.seq, other.seq), least(one.last_seq, other.last_seq)
FROM (SELECT *, row_number() OVER () AS row FROM sequences WHERE symbol IS NULL) AS one
JOIN (SELECT *, row_number() OVER () AS row FROM sequences WHERE symbol IS NULL) AS other
    ON one.conn = other.conn AND one.row < other.row
    AND one.channel IS NOT DISTINCT FROM other.channel
    AND one.seq <= other.last_seq AND other.seq <= one.last_seq
    AND one.ts_recv <= other.last_recv AND other.ts_recv <= one.last_recv
ORDER BY ALL
