-- How text becomes values. What is missing or unreadable is null, never 0.

-- A finite number: 'nan', 'inf', '1_000' and '' are none.
CREATE OR REPLACE TEMP MACRO number(text) AS
    CASE WHEN isfinite(TRY_CAST(text AS DOUBLE)) AND NOT contains(text, '_')
        THEN TRY_CAST(text AS DOUBLE) END;

-- A whole number of decimal digits: nothing is rounded.
CREATE OR REPLACE TEMP MACRO whole_number(text) AS
    CASE WHEN regexp_full_match(text, '[+-]?[0-9]+') THEN TRY_CAST(text AS BIGINT) END;

-- A point in time, RFC 3339, cut to microseconds; without a zone it is UTC. Years have four
-- digits: what lies beyond no calendar of Python's or Arrow's can show.
CREATE OR REPLACE TEMP MACRO instant(text) AS
    CASE WHEN TRY_CAST(text AS TIMESTAMPTZ)
            BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59+00'
        THEN TRY_CAST(text AS TIMESTAMPTZ) END;

-- Seconds since 1970, UTC, in decimal digits.
CREATE OR REPLACE TEMP MACRO epoch_time(text) AS
    CASE WHEN whole_number(text) BETWEEN -62135596800 AND 253402300799
        THEN to_timestamp(whole_number(text)) END;

-- Nanoseconds since 1970, UTC, cut to microseconds.
CREATE OR REPLACE TEMP MACRO capture_time(ns) AS
    to_timestamp(0) + to_microseconds(ns // 1000);

-- Milliseconds since 1970, UTC; 16 digits are microseconds.
CREATE OR REPLACE TEMP MACRO epoch_ms_time(text) AS
    CASE
        WHEN whole_number(text) BETWEEN -62135596800000 AND 253402300799999
            THEN to_timestamp(0) + to_milliseconds(whole_number(text))
        WHEN whole_number(text) BETWEEN 253402300800000 AND 253402300799999999
            THEN to_timestamp(0) + to_microseconds(whole_number(text))
    END;

-- BASE-QUOTE from a symbol without a separator; a derivative says what it is.
CREATE OR REPLACE TEMP MACRO pair(symbol, market := 'spot') AS
    regexp_replace(symbol, '^([A-Z0-9]+?)(USDT|USDC|FDUSD|TUSD|BUSD|DAI|USD|BTC|ETH|BNB|EUR|GBP|TRY|BRL|JPY)(-.*)?$', '\1-\2')
    || CASE market WHEN 'spot' THEN '' ELSE '-PERP' END;

-- The market that the name of a connection begins with, or ends with.
CREATE OR REPLACE TEMP MACRO market_of(conn) AS
    coalesce(nullif(regexp_extract(conn, '(spot|linear|inverse)'), ''), 'spot');
