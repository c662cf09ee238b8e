-- One row per frame of a ticker, as it was sent. Not trades.
-- takes: tickers
-- rows: $.data
--
-- On linear and inverse a frame holds only what changed: what it leaves out is null here, and
-- unchanged at the venue. Spot sends no quotes. Frames are never merged: a row is a frame.
SELECT
    line_no, ts_recv, conn,
    frame.data.symbol                       AS symbol,
    epoch_ms_time(frame.ts)                 AS ts_event,
    number(frame.data.lastPrice)            AS price,
    number(frame.data.bid1Price) AS best_bid, number(frame.data.bid1Size) AS best_bid_size,
    number(frame.data.ask1Price) AS best_ask, number(frame.data.ask1Size) AS best_ask_size,
    number(frame.data.volume24h)            AS volume_24h,
    number(frame.data.lowPrice24h) AS low_24h, number(frame.data.highPrice24h) AS high_24h,
    number(frame.data.price24hPcnt) * 100   AS change_24h_percent,
    frame."type" = 'snapshot'               AS is_snapshot
FROM (
    SELECT *, from_json(data, '{"type": "VARCHAR", "ts": "VARCHAR", "data": {"symbol": "VARCHAR",
        "lastPrice": "VARCHAR", "bid1Price": "VARCHAR", "bid1Size": "VARCHAR",
        "ask1Price": "VARCHAR", "ask1Size": "VARCHAR", "volume24h": "VARCHAR",
        "lowPrice24h": "VARCHAR", "highPrice24h": "VARCHAR", "price24hPcnt": "VARCHAR"}}') AS frame
    FROM frames
    WHERE kind = 'tickers'
)
