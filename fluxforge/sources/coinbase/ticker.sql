-- The last price and the best quotes, on each change. Not trades.
-- takes: ticker, ticker_batch
-- rows: $.events[*].tickers
--
-- A ticker has no time of its own: ts_event is when the venue sent the frame.
-- ticker_batch frames carry no quotes: those columns are null.
SELECT
    line_no, ts_recv, seq, conn,
    ticker.product_id                       AS symbol,
    ts_sent                                 AS ts_event,
    number(ticker.price)                    AS price,
    number(ticker.best_bid) AS best_bid, number(ticker.best_bid_quantity) AS best_bid_size,
    number(ticker.best_ask) AS best_ask, number(ticker.best_ask_quantity) AS best_ask_size,
    number(ticker.volume_24_h)              AS volume_24h,
    number(ticker.low_24_h) AS low_24h, number(ticker.high_24_h) AS high_24h,
    number(ticker.low_52_w) AS low_52w, number(ticker.high_52_w) AS high_52w,
    number(ticker.price_percent_chg_24_h)   AS change_24h_percent,
    event."type" = 'snapshot'               AS is_snapshot
FROM (
    SELECT *, unnest(event.tickers) AS ticker
    FROM (SELECT *, unnest(data.events) AS event FROM frames WHERE kind IN ('ticker', 'ticker_batch'))
)
