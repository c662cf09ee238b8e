-- How to read a frame of Coinbase Advanced Trade.
-- control: subscriptions, heartbeats, error
-- fields: channel, client_id, timestamp, sequence_num, events, history, symbol, interval, response
-- instrument: symbol
-- market: 'spot'
--
-- All frames of a connection are numbered together, from 0.
-- A frame is {"channel", "timestamp", "sequence_num", "events"}; a refusal is {"type": "error"};
-- a REST answer is {"history": TABLE, "symbol", "interval", "response"}.
-- shape: {"channel": "VARCHAR", "client_id": "VARCHAR", "timestamp": "VARCHAR",
-- shape:  "sequence_num": "VARCHAR", "type": "VARCHAR", "message": "VARCHAR",
-- shape:  "history": "VARCHAR", "symbol": "VARCHAR", "interval": "VARCHAR", "response": "JSON",
-- shape:  "events": [{
-- shape:    "type": "VARCHAR", "product_id": "VARCHAR", "current_time": "VARCHAR",
-- shape:    "heartbeat_counter": "VARCHAR", "subscriptions": "JSON",
-- shape:    "updates": [{"side": "VARCHAR", "event_time": "VARCHAR",
-- shape:      "price_level": "VARCHAR", "new_quantity": "VARCHAR"}],
-- shape:    "trades": [{"product_id": "VARCHAR", "trade_id": "VARCHAR", "price": "VARCHAR",
-- shape:      "size": "VARCHAR", "time": "VARCHAR", "side": "VARCHAR"}],
-- shape:    "tickers": [{"type": "VARCHAR", "product_id": "VARCHAR", "price": "VARCHAR",
-- shape:      "volume_24_h": "VARCHAR", "low_24_h": "VARCHAR", "high_24_h": "VARCHAR",
-- shape:      "low_52_w": "VARCHAR", "high_52_w": "VARCHAR", "price_percent_chg_24_h": "VARCHAR",
-- shape:      "best_bid": "VARCHAR", "best_ask": "VARCHAR",
-- shape:      "best_bid_quantity": "VARCHAR", "best_ask_quantity": "VARCHAR"}],
-- shape:    "candles": [{"product_id": "VARCHAR", "start": "VARCHAR", "open": "VARCHAR",
-- shape:      "high": "VARCHAR", "low": "VARCHAR", "close": "VARCHAR", "volume": "VARCHAR"}],
-- shape:    "products": [{"product_type": "VARCHAR", "id": "VARCHAR",
-- shape:      "base_currency": "VARCHAR", "quote_currency": "VARCHAR",
-- shape:      "base_increment": "VARCHAR", "quote_increment": "VARCHAR",
-- shape:      "display_name": "VARCHAR", "status": "VARCHAR", "status_message": "VARCHAR",
-- shape:      "min_market_funds": "VARCHAR"}]}]}
SELECT
    *,
    coalesce(data.channel, CASE WHEN data."type" = 'error' THEN 'error' END, 'history_' || data.history) AS kind,
    whole_number(data.sequence_num)                                 AS seq,
    seq                                                             AS run_first,
    seq                                                             AS run_last,
    NULL::VARCHAR                                                   AS run_channel,
    NULL::VARCHAR                                                   AS run_symbol,
    false                                                           AS restarts,
    instant(data."timestamp")                                       AS ts_sent
FROM lines
