-- How to read a frame of Binance's combined streams.
-- control: answer, error, serverShutdown
-- fields: stream, data, depth, response
--
-- Data is {"stream", "data"}; the kind is the event's name, or the stream's where it has none
-- (bookTicker). An answer to a request is {"result", "id"}. The REST answer with which a book
-- begins is stored as {"depth": SYMBOL, "response": {...}}.
SELECT
    * EXCLUDE (part),
    CASE
        WHEN part[5] IS NOT NULL THEN 'depth'
        WHEN part[2] IS NOT NULL THEN part[2]
        WHEN part[1] IS NOT NULL THEN split_part(part[1], '@', 2)
        WHEN part[3] IS NOT NULL THEN 'error'
        WHEN part[4] IS NOT NULL THEN 'answer'
    END                                                 AS kind,
    CASE part[2]
        WHEN 'aggTrade' THEN whole_number(part[7])
        WHEN 'trade' THEN whole_number(part[9])
        ELSE whole_number(part[6])
    END                                                 AS seq,
    -- A change of a book begins with the number after the last one's; trades are numbered one by one.
    CASE part[2]
        WHEN 'depthUpdate' THEN whole_number(part[10])
        WHEN 'aggTrade' THEN whole_number(part[7])
        WHEN 'trade' THEN whole_number(part[9])
    END                                                 AS run_first,
    CASE part[2]
        WHEN 'depthUpdate' THEN whole_number(part[6])
        WHEN 'aggTrade' THEN whole_number(part[7])
        WHEN 'trade' THEN whole_number(part[9])
    END                                                 AS run_last,
    CASE part[2]
        WHEN 'depthUpdate' THEN 'orderbook'
        WHEN 'aggTrade' THEN 'trades'
        WHEN 'trade' THEN 'trades'
    END                                                 AS run_channel,
    part[11]                                            AS run_symbol,
    false                                               AS restarts,
    epoch_ms_time(part[8])                              AS ts_sent
FROM (
    SELECT *, json_extract_string(data, [
        '$.stream', '$.data.e', '$.error.msg', '$.id', '$.depth', '$.data.u', '$.data.a', '$.data.E', '$.data.t', '$.data.U', '$.data.s'
    ]) AS part
    FROM lines
)
