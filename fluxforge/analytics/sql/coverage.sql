-- Spans in which nothing is missing: one row per connection, table, symbol and unbroken run.
-- A span begins with the first row of the symbol on its connection, and for an order book with a
-- snapshot; it ends with the last frame of the run. Where a venue numbers nothing that tells of a
-- table, a span is from its first row to its last. Times are those of capture, UTC.
WITH numbered AS (
    SELECT
        seen."table",
        seen.symbol,
        seen.conn,
        greatest(runs.start, min(seen.first))   AS start,
        runs."end"
    FROM seen
    JOIN runs ON runs.conn = seen.conn
        AND (runs.symbol IS NULL OR (runs.symbol = seen.symbol AND runs.channel = seen."table"))
    WHERE seen.first <= runs."end"
        AND (NOT seen.is_snapshot OR seen.first >= runs.start)
    GROUP BY seen."table", seen.symbol, seen.conn, runs.start, runs."end"
)
SELECT "table", symbol, conn, start, "end"
FROM numbered
UNION ALL
SELECT "table", symbol, conn, min(first), max("last")
FROM seen ANTI JOIN numbered USING ("table", symbol, conn)
GROUP BY "table", symbol, conn
ORDER BY start, conn, "table", symbol
