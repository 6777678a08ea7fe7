-- name: any
-- Whether anything stands in the stretch of a page; and a way back, in the same trip to the server.
SAVEPOINT page;
SELECT EXISTS (
    SELECT FROM "candles_{tf}" WHERE instrument_id = :instrument_id
        AND time >= CAST(:first AS timestamptz) AND time <= CAST(:last AS timestamptz))

-- name: insert
COPY "candles_{tf}" (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count,
    open_time, open_seq, close_time, close_seq, state, origin) FROM STDIN

-- name: take_back
ROLLBACK TO SAVEPOINT page

-- name: staging
-- Once a connection: its rows go with the transaction, and what is made once leaves no dead rows in the catalog.
CREATE TEMP TABLE IF NOT EXISTS bars_in (i int, t bigint, o float8, h float8, l float8, c float8, v numeric, q numeric,
    k numeric, n bigint, ot bigint, os bigint, ct bigint, cs bigint) ON COMMIT DELETE ROWS

-- name: clear
DELETE FROM bars_in

-- name: stage
COPY bars_in FROM STDIN
