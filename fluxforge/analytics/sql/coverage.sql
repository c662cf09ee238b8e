-- Spans in which nothing is missing: one row per connection, table, symbol and unbroken run.
-- A span begins with the first row of the symbol on its connection, and for an order book with a
-- snapshot; it ends with the last frame of the run. Times are those of capture, UTC.
SELECT
    seen."table",
    seen.symbol,
    runs.conn,
    greatest(runs.start, min(seen.first))   AS start,
    runs."end"
FROM seen
JOIN runs ON runs.conn = seen.conn AND (runs.symbol IS NULL OR runs.symbol = seen.symbol)
WHERE seen.first <= runs."end"
    AND (NOT seen.is_snapshot OR seen.first >= runs.start)
GROUP BY seen."table", seen.symbol, runs.conn, runs.start, runs."end"
ORDER BY start, runs.conn, "table", symbol
