-- How to read a frame of Bybit's v5 public streams.
-- control: subscribe, unsubscribe, ping, pong, auth
-- fields: topic, type, ts, cts, cs, data, history, symbol, interval, response
-- instrument: pair(symbol, market_of(conn))
-- market: market_of(conn)
--
-- Data is {"topic", "type", "ts", "data"}; the kind is the topic's first word. An answer has "op";
-- a REST answer is {"history": TABLE, "symbol", "interval", "response"}. The market is not in the
-- frame: it is in the connection's name. A book with the number 1 is whole: the venue began anew.
SELECT
    * EXCLUDE (part),
    coalesce(split_part(part[1], '.', 1), part[2], 'history_' || part[7]) AS kind,
    whole_number(part[3])                               AS seq,
    whole_number(part[3])                               AS run_first,
    whole_number(part[3])                               AS run_last,
    CASE WHEN part[3] IS NOT NULL THEN 'orderbook' END  AS run_channel,
    part[6]                                             AS run_symbol,
    part[3] IS NOT NULL AND (part[5] = 'snapshot' OR part[3] = '1') AS restarts,
    epoch_ms_time(part[4])                              AS ts_sent
FROM (
    SELECT *, json_extract_string(data, [
        '$.topic', '$.op', '$.data.u', '$.ts', '$.type', '$.data.s', '$.history'
    ]) AS part
    FROM lines
)
