-- How to read a frame of Kraken's WebSocket v2.
-- control: heartbeat, status, subscribe, unsubscribe, pong, error
-- fields: channel, type, data, timestamp, history, symbol, interval, response
-- instrument: replace(symbol, '/', '-')
-- market: 'spot'
--
-- Data is {"channel", "type": "snapshot" | "update", "data": [...]}; an answer has a "method", and
-- an error where it is refused; a REST answer is {"history": TABLE, "symbol", "interval",
-- "response"}. Frames are not numbered: books have checksums, trades numbers.
SELECT
    * EXCLUDE (part),
    coalesce(part[1], part[2], 'history_' || part[8], CASE WHEN part[3] IS NOT NULL THEN 'error' END) AS kind,
    NULL::BIGINT                                        AS seq,
    least(whole_number(part[5]), whole_number(part[6])) AS run_first,
    greatest(whole_number(part[5]), whole_number(part[6])) AS run_last,
    CASE WHEN part[5] IS NOT NULL THEN 'trades' END     AS run_channel,
    part[7] AS run_symbol, false AS restarts,
    instant(part[4])                                    AS ts_sent
FROM (
    SELECT *, json_extract_string(data, [
        '$.channel', '$.method', '$.error', '$.data[0].timestamp', '$.data[0].trade_id',
        '$.data[#-1].trade_id', '$.data[0].symbol', '$.history'
    ]) AS part
    FROM lines
)
