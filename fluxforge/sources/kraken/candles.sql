-- One row per candle as it was when the frame was sent.
-- takes: ohlc, history_candles
-- rows: $.data | $.response.result
-- key: symbol, interval, start; last wins
--
-- A candle's event is its interval: ts_event is its start. The venue counts it in minutes. A REST
-- row is [time, open, high, low, close, vwap, volume, count].
SELECT
    line_no, ts_recv, conn,
    candle.symbol                           AS symbol,
    instant(candle.interval_begin)          AS ts_event,
    interval_of(candle."interval")          AS "interval",
    instant(candle.interval_begin)          AS "start",
    number(candle.open) AS open, number(candle.high) AS high, number(candle.low) AS low,
    number(candle.close) AS close, number(candle.volume) AS volume
FROM (
    SELECT *, unnest(from_json(data, '{"data": [{"symbol": "VARCHAR",
        "open": "VARCHAR", "high": "VARCHAR", "low": "VARCHAR", "close": "VARCHAR",
        "vwap": "VARCHAR", "trades": "VARCHAR", "volume": "VARCHAR",
        "interval_begin": "VARCHAR", "interval": "VARCHAR", "timestamp": "VARCHAR"}]}').data) AS candle
    FROM frames WHERE kind = 'ohlc'
)
UNION ALL BY NAME
SELECT
    line_no, ts_recv, conn, symbol, epoch_time(row[1]) AS ts_event, "interval",
    epoch_time(row[1]) AS "start", number(row[2]) AS open, number(row[3]) AS high,
    number(row[4]) AS low, number(row[5]) AS close, number(row[7]) AS volume
FROM (
    SELECT *, data ->> '$.symbol' AS symbol, data ->> '$.interval' AS "interval",
        unnest(from_json(json_extract(data, '$.response.result.*')[1], '[["VARCHAR"]]')) AS row
    FROM frames WHERE kind = 'history_candles'
)
