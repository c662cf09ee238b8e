-- One row per candle as it was when the frame was sent.
-- takes: ohlc
-- rows: $.data
-- key: symbol, interval, start; last wins
--
-- A candle's event is its interval: ts_event is its start. interval is in minutes at the venue.
SELECT
    line_no,
    candle.symbol                           AS symbol,
    instant(candle.interval_begin)          AS ts_event,
    ts_recv,
    seq,
    conn,
    replace(candle.symbol, '/', '-')        AS instrument,
    'spot'                                  AS market,
    candle."interval" || 'm'                AS "interval",
    instant(candle.interval_begin)          AS "start",
    number(candle.open)                     AS open,
    number(candle.high)                     AS high,
    number(candle.low)                      AS low,
    number(candle.close)                    AS close,
    number(candle.volume)                   AS volume
FROM (
    SELECT *, unnest(frame.data) AS candle
    FROM (
        SELECT *, from_json(data, '{"type": "VARCHAR", "data": [{"symbol": "VARCHAR",
            "open": "VARCHAR", "high": "VARCHAR", "low": "VARCHAR", "close": "VARCHAR",
            "vwap": "VARCHAR", "trades": "VARCHAR", "volume": "VARCHAR",
            "interval_begin": "VARCHAR", "interval": "VARCHAR", "timestamp": "VARCHAR"}]}') AS frame
        FROM frames
        WHERE kind = 'ohlc'
    )
)
