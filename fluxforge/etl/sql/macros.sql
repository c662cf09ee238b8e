-- How text becomes values. What is missing or unreadable is null, never 0.

-- A finite number: 'nan', 'inf' and '' are none.
CREATE OR REPLACE TEMP MACRO number(text) AS
    CASE WHEN isfinite(TRY_CAST(text AS DOUBLE)) THEN TRY_CAST(text AS DOUBLE) END;

-- A point in time, RFC 3339, cut to microseconds; without a zone it is UTC.
CREATE OR REPLACE TEMP MACRO instant(text) AS
    CASE WHEN isfinite(TRY_CAST(text AS TIMESTAMPTZ)) THEN TRY_CAST(text AS TIMESTAMPTZ) END;

-- Nanoseconds since 1970, UTC, cut to microseconds.
CREATE OR REPLACE TEMP MACRO capture_time(ns) AS
    to_timestamp(0) + to_microseconds(ns // 1000);
