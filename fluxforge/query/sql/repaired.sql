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
    SELECT gap, bool_and(whole) AS whole
    FROM (
        SELECT gap, numbered.symbol,
            max(trade_id) - min(trade_id) + 1 = count(DISTINCT trade_id)
                AND min(ts_event) <= any_value(received_before)
                AND max(ts_event) >= any_value(received_after) AS whole
        FROM gaps
        JOIN (SELECT DISTINCT conn, symbol FROM numbered) AS seen ON seen.conn = gaps.conn
        JOIN numbered ON numbered.symbol = seen.symbol AND numbered.ts_event
            BETWEEN received_before - INTERVAL 1 HOUR AND received_after + INTERVAL 1 HOUR
        WHERE gaps.channel IS NULL
        GROUP BY gap, numbered.symbol
    )
    GROUP BY gap
),
of_candles AS (
    SELECT gap, bool_and(received > least(ends, received_after)) AS whole
    FROM (
        SELECT gap, received_after, candles.symbol, candles."interval", "start",
            "start" + candles.length AS ends, max(candles.ts_recv) AS received
        FROM gaps
        JOIN (SELECT DISTINCT conn, symbol FROM candles_raw) AS seen ON seen.conn = gaps.conn
        JOIN (
            SELECT *, CASE WHEN "interval" LIKE '%m' THEN to_minutes(n) WHEN "interval" LIKE '%h'
                THEN to_hours(n) ELSE to_days(n) END AS length
            FROM (SELECT *, TRY_CAST(regexp_extract("interval", '[0-9]+') AS INTEGER) AS n FROM candles_raw)
        ) AS candles ON candles.symbol = seen.symbol
            AND "start" <= received_after AND "start" + length > received_before
        WHERE gaps.channel IS NULL OR gaps.channel = 'candles'
        GROUP BY ALL
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
