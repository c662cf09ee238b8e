-- How to read a frame of Coinbase Advanced Trade.
-- control: subscriptions, heartbeats, error
-- fields: channel, client_id, timestamp, sequence_num, events, history, symbol, interval, response
-- instrument: symbol
-- market: 'spot'
--
-- All frames of a connection are numbered together, from 0.
-- A frame is {"channel", "timestamp", "sequence_num", "events"}; a refusal is {"type": "error"};
-- a REST answer is {"history": TABLE, "symbol", "interval", "response"}.
SELECT
    * EXCLUDE (part),
    coalesce(part[1], CASE WHEN part[2] = 'error' THEN 'error' END, 'history_' || part[5]) AS kind,
    whole_number(part[3])                                           AS seq,
    whole_number(part[3])                                           AS run_first,
    whole_number(part[3])                                           AS run_last,
    NULL::VARCHAR                                                   AS run_channel,
    NULL::VARCHAR                                                   AS run_symbol,
    false                                                           AS restarts,
    instant(part[4])                                                AS ts_sent
FROM (
    SELECT *, json_extract_string(data, [
        '$.channel', '$.type', '$.sequence_num', '$.timestamp', '$.history'
    ]) AS part
    FROM lines
)
