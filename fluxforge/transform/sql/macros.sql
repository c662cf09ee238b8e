-- How text becomes values. What is missing or unreadable is null, never 0.

-- A finite number: 'nan', 'inf', '1_000' and '' are none, nor is what is too small for a DOUBLE.
CREATE OR REPLACE MACRO number(text) AS
    CASE
        WHEN NOT isfinite(TRY_CAST(text AS DOUBLE)) OR contains(text, '_') THEN NULL
        WHEN TRY_CAST(text AS DOUBLE) = 0 AND regexp_matches(text, '^[^eE]*[1-9]') THEN NULL
        ELSE TRY_CAST(text AS DOUBLE)
    END;

-- A whole number of decimal digits: nothing is rounded.
CREATE OR REPLACE MACRO whole_number(text) AS
    CASE WHEN regexp_full_match(text, '[+-]?[0-9]+') THEN TRY_CAST(text AS BIGINT) END;

-- A point in time, RFC 3339, cut to microseconds; without a zone it is UTC. Years have four
-- digits: what lies beyond no calendar of Python's or Arrow's can show. The years 1 and 1970 are
-- how venues write that there is none. Words are no times; no zone is more than 15 hours away.
CREATE OR REPLACE MACRO instant(text) AS
    CASE
        WHEN TRY_CAST(text AS TIMESTAMPTZ)
            NOT BETWEEN TIMESTAMPTZ '1971-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59+00'
            THEN NULL
        WHEN suffix(text, 'Z') OR regexp_full_match(text, '[0-9-]+([T ][0-9:.]+(z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?)?')
            THEN TRY_CAST(text AS TIMESTAMPTZ)
    END;

-- Seconds since 1970, UTC, in decimal digits.
CREATE OR REPLACE MACRO epoch_time(text) AS
    CASE WHEN whole_number(text) BETWEEN -62135596800 AND 253402300799
        THEN to_timestamp(whole_number(text)) END;

-- Nanoseconds since 1970, UTC, cut to microseconds.
CREATE OR REPLACE MACRO capture_time(ns) AS
    to_timestamp(0) + to_microseconds(ns // 1000);

-- Milliseconds since 1970, UTC; 16 digits are microseconds.
CREATE OR REPLACE MACRO epoch_ms_time(text) AS
    CASE
        WHEN whole_number(text) BETWEEN -62135596800000 AND 253402300799999
            THEN to_timestamp(0) + to_milliseconds(whole_number(text))
        WHEN whole_number(text) BETWEEN 253402300800000 AND 253402300799999999
            THEN to_timestamp(0) + to_microseconds(whole_number(text))
    END;

-- BASE-QUOTE from a symbol without a separator; a derivative says what it is: -PERP, or when it
-- ends. Perpetuals in USDC are written BTCPERP.
CREATE OR REPLACE MACRO pair(symbol, market := 'spot') AS
    regexp_replace(
        regexp_replace(symbol, '^([A-Z0-9]+)PERP$', '\1USDC'),
        '^([A-Z0-9]+?)(USDT|USDC|FDUSD|TUSD|BUSD|USD1|USDE|DAI|USD|BTC|ETH|BNB|EUR|GBP|TRY|BRL|JPY|ARS|MXN|PLN|AUD|UAH|RUB|ZAR)-?([0-9]{1,2}[A-Z]{3}[0-9]{2}|[FGHJKMNQUVXZ][0-9]{2})?$',
        '\1-\2-\3'
    ).rtrim('-')
    || CASE WHEN market = 'spot' OR regexp_matches(symbol, '[0-9]{2}$') THEN '' ELSE '-PERP' END;

-- The length of a candle, in the common words, from minutes or a venue's letter: 60 is 1h, D is 1d.
CREATE OR REPLACE MACRO interval_of(text) AS
    CASE
        WHEN text IN ('D', 'W', 'M') THEN '1' || CASE text WHEN 'M' THEN 'M' ELSE lower(text) END
        WHEN whole_number(text) IS NULL THEN text
        WHEN whole_number(text) % 10080 = 0 THEN (whole_number(text) // 10080) || 'w'
        WHEN whole_number(text) % 1440 = 0 THEN (whole_number(text) // 1440) || 'd'
        WHEN whole_number(text) % 60 = 0 THEN (whole_number(text) // 60) || 'h'
        ELSE text || 'm'
    END;

-- The levels of a book whose sides are lists of [price, quantity].
CREATE OR REPLACE MACRO book_levels(bids, asks) AS list_concat(
    list_transform(bids, lambda l: {side: 'bid', price: l[1], qty: l[2]}),
    list_transform(asks, lambda l: {side: 'ask', price: l[1], qty: l[2]}));

-- The market that the name of a connection begins with, or ends with.
CREATE OR REPLACE MACRO market_of(conn) AS
    coalesce(nullif(regexp_extract(conn, '(spot|linear|inverse)'), ''), 'spot');
