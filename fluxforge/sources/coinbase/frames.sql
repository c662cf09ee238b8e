-- How to read a frame of Coinbase Advanced Trade.
-- control: subscriptions, heartbeats, error
-- fields: channel, client_id, timestamp, sequence_num, events, history, symbol, interval, response
-- instrument: symbol
-- market: 'spot'
--
-- All frames of a connection are numbered together, from 0.
-- A frame is {"channel", "timestamp", "sequence_num", "events"}; a refusal is {"type": "error"};
-- a REST answer is {"history": TABLE, "symbol", "interval", "response"}.
-- shape: {"": "channel client_id timestamp sequence_num type message history symbol interval",
-- shape:  "response": "JSON", "events": [{
-- shape:    "": "type product_id current_time heartbeat_counter", "subscriptions": "JSON",
-- shape:    "updates": [{"": "side event_time price_level new_quantity"}],
-- shape:    "trades": [{"": "product_id trade_id price size time side"}],
-- shape:    "tickers": [{"": "type product_id price volume_24_h low_24_h high_24_h low_52_w high_52_w
-- shape:      price_percent_chg_24_h best_bid best_ask best_bid_quantity best_ask_quantity"}],
-- shape:    "candles": [{"": "product_id start open high low close volume"}],
-- shape:    "products": [{"": "product_type id base_currency quote_currency base_increment
-- shape:      quote_increment display_name status status_message min_market_funds"}]}]}
SELECT
    *,
    coalesce(data.channel, CASE WHEN data."type" = 'error' THEN 'error' END, 'history_' || data.history) AS kind,
    whole_number(data.sequence_num) AS seq, seq AS run_first, seq AS run_last,
    NULL::VARCHAR AS run_channel, NULL::VARCHAR AS run_symbol, false AS restarts,
    instant(data."timestamp")                                       AS ts_sent
FROM lines
