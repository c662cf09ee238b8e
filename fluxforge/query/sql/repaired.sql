-- Which gaps hold nothing any more that a table misses: of trades, whose numbers have no hole, and
-- of candles, which were received again after they had ended. Books stay gaps.
-- A gap of a whole connection concerns every symbol that the connection had rows of; its trades are
-- looked at from a little before it to a little after.
WITH numbered AS (
    SELECT DISTINCT symbol, TRY_CAST(trade_id AS BIGINT) AS trade_id, ts_event, conn FROM trades_raw
),
of_numbers AS (
    SELECT gap, count(DISTINCT trade_id) = any_value(missing) AS whole
    FROM gaps JOIN numbered ON numbered.symbol = gaps.symbol
        AND trade_id BETWEEN first_missing AND last_missing
    WHERE gaps.channel = 'trades'
    GROUP BY gap
),
of_connections AS (
    SELECT gap, bool_and(coalesce(whole, false)) AS whole
    FROM (
        SELECT gap, seen.symbol,
            max(trade_id) - min(trade_id) + 1 = count(DISTINCT trade_id)
                AND min(ts_event) <= any_value(received_before)
                AND max(ts_event) >= any_value(received_after) AS whole
        FROM gaps
        JOIN (SELECT DISTINCT conn, symbol FROM numbered) AS seen ON seen.conn = gaps.conn
        LEFT JOIN numbered ON numbered.symbol = seen.symbol AND numbered.ts_event
            BETWEEN received_before - INTERVAL 1 HOUR AND received_after + INTERVAL 1 HOUR
        WHERE gaps.channel IS NULL
        GROUP BY gap, seen.symbol
    )
    GROUP BY gap
),
candles AS (
    SELECT conn, symbol, "interval", "start", ts_recv,
        CASE WHEN "interval" LIKE '%m' THEN to_minutes(n) WHEN "interval" LIKE '%h'
            THEN to_hours(n) ELSE to_days(n) END AS length
    FROM (SELECT *, TRY_CAST(regexp_extract("interval", '[0-9]+') AS INTEGER) AS n FROM candles_raw)
),
of_candles AS (
    SELECT gap, bool_and(starts = wanted AND received > least(ends, received_after)) AS whole
    FROM (
        SELECT gap, any_value(received_after) AS received_after,
            count(DISTINCT candles."start") AS starts,
            floor(epoch(any_value(received_after)) / epoch(any_value(seen.length)))
                - floor(epoch(any_value(received_before)) / epoch(any_value(seen.length))) + 1 AS wanted,
            min(last_recv) AS received, min(ends) AS ends
        FROM gaps
        JOIN (SELECT DISTINCT conn, symbol, "interval", length FROM candles) AS seen
            ON seen.conn = gaps.conn
        LEFT JOIN (
            SELECT symbol, "interval", "start", "start" + length AS ends, max(ts_recv) AS last_recv
            FROM candles GROUP BY ALL
        ) AS candles ON candles.symbol = seen.symbol AND candles."interval" = seen."interval"
            AND candles."start" <= received_after AND ends > received_before
        WHERE gaps.channel IS NULL OR gaps.channel = 'candles'
        GROUP BY gap, seen.symbol, seen."interval"
    )
    GROUP BY gap
)
SELECT gap, list("table" ORDER BY "table" DESC) AS repaired
FROM (
    SELECT gap, 'trades' AS "table" FROM of_numbers WHERE whole
    UNION ALL SELECT gap, 'trades' FROM of_connections WHERE whole
    UNION ALL SELECT gap, 'candles' FROM of_candles WHERE whole
)
GROUP BY gap
