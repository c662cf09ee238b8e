-- How to read a frame of Binance's streams, combined or raw.
-- control: answer, error, serverShutdown
-- fields: stream, data, depth, history, symbol, interval, response
-- instrument: pair(symbol)
-- market: 'spot'
--
-- Data is {"stream", "data"}, or what is in "data" alone; the kind is the event's name, or the
-- stream's where it has none (bookTicker, depth20). An answer to a request is {"result", "id"}. The
-- REST answer with which a book begins is {"depth": SYMBOL, "response"}, one about the past
-- {"history": TABLE, "symbol", "interval", "response"}.
SELECT
    * EXCLUDE (part, raw_book),
    coalesce(
        CASE WHEN part[17] IS NOT NULL THEN 'error' WHEN part[5] IS NOT NULL THEN 'depth' END,
        'history_' || part[6], part[2], part[14], nullif(split_part(part[1], '@', 2), ''),
        CASE WHEN raw_book THEN 'bookTicker' WHEN coalesce(part[3], part[16]) IS NOT NULL THEN 'error'
            WHEN part[4] IS NOT NULL THEN 'answer' END
    )                                                   AS kind,
    -- A change of a book begins with the number after the last one's; trades are numbered one by one.
    CASE part[2]
        WHEN 'aggTrade' THEN whole_number(part[8])
        WHEN 'trade' THEN whole_number(part[9])
        ELSE whole_number(coalesce(part[7], part[13]))
    END                                                 AS seq,
    CASE WHEN part[2] = 'depthUpdate' THEN whole_number(part[10])
        WHEN part[2] IN ('aggTrade', 'trade') THEN seq END AS run_first,
    CASE WHEN part[2] IN ('depthUpdate', 'aggTrade', 'trade') THEN seq END AS run_last,
    CASE WHEN part[2] = 'depthUpdate' THEN 'orderbook'
        WHEN part[2] IN ('aggTrade', 'trade') THEN 'trades' END AS run_channel,
    coalesce(part[11], upper(split_part(part[1], '@', 1))) AS run_symbol,
    false                                               AS restarts,
    epoch_ms_time(coalesce(part[12], part[15]))         AS ts_sent
FROM (
    SELECT *, json_extract_string(data, [
        '$.stream', '$.data.e', '$.error.msg', '$.id', '$.depth', '$.history', '$.data.u',
        '$.data.a', '$.data.t', '$.data.U', '$.data.s', '$.data.E', '$.data.lastUpdateId',
        '$.data[0].e', '$.data[0].E', '$.code', '$.response.code'
    ]) AS part
    FROM (
        SELECT * EXCLUDE (framed) REPLACE (framed AS data, framed AS json)
        FROM (
            SELECT *, regexp_matches(data, '^\s*\{\s*"u"') AS raw_book,
                CASE WHEN regexp_matches(data, '^\s*(\{\s*"[eu]"|\[)')
                    THEN '{"data":' || data || '}' ELSE data END AS framed
            FROM lines
        )
    )
)
