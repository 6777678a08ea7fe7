-- Times travel as bigint: ms for bars, µs for trades. `to_ms`-like conversions stand in the statements.

-- name: merge
-- date_part counts in float8, exact for a minute, where extract counts in NUMERIC: a tenth of this statement's time.
INSERT INTO "candles_1m" AS b (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT i, timestamptz 'epoch' + t * interval '1 millisecond', o, h, l, c, v, q, k, n, ot, os, ct, cs, 0, 0
FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[]), CAST(:open AS float8[]), CAST(:high AS float8[]),
    CAST(:low AS float8[]), CAST(:close AS float8[]), CAST(:volume AS numeric[]), CAST(:quote_volume AS numeric[]),
    CAST(:taker_buy_volume AS numeric[]), CAST(:trade_count AS bigint[]), CAST(:open_time AS bigint[]),
    CAST(:open_seq AS bigint[]), CAST(:close_time AS bigint[]), CAST(:close_seq AS bigint[]))
    AS u (i, t, o, h, l, c, v, q, k, n, ot, os, ct, cs)
ORDER BY i, t
ON CONFLICT (instrument_id, time) DO UPDATE SET
    open = CASE WHEN b.trade_count = 0 OR (excluded.open_time, excluded.open_seq) < (b.open_time, b.open_seq)
        THEN excluded.open ELSE b.open END,
    open_time = CASE WHEN b.trade_count = 0 OR (excluded.open_time, excluded.open_seq) < (b.open_time, b.open_seq)
        THEN excluded.open_time ELSE b.open_time END,
    open_seq = CASE WHEN b.trade_count = 0 OR (excluded.open_time, excluded.open_seq) < (b.open_time, b.open_seq)
        THEN excluded.open_seq ELSE b.open_seq END,
    close = CASE WHEN b.trade_count = 0 OR (excluded.close_time, excluded.close_seq) > (b.close_time, b.close_seq)
        THEN excluded.close ELSE b.close END,
    close_time = CASE WHEN b.trade_count = 0 OR (excluded.close_time, excluded.close_seq) > (b.close_time, b.close_seq)
        THEN excluded.close_time ELSE b.close_time END,
    close_seq = CASE WHEN b.trade_count = 0 OR (excluded.close_time, excluded.close_seq) > (b.close_time, b.close_seq)
        THEN excluded.close_seq ELSE b.close_seq END,
    high = CASE WHEN b.trade_count = 0 THEN excluded.high ELSE greatest(b.high, excluded.high) END,
    low = CASE WHEN b.trade_count = 0 THEN excluded.low ELSE least(b.low, excluded.low) END,
    volume = b.volume + excluded.volume,
    quote_volume = b.quote_volume + excluded.quote_volume,
    taker_buy_volume = b.taker_buy_volume + excluded.taker_buy_volume,
    trade_count = b.trade_count + excluded.trade_count,
    origin = 0,
    revision = b.revision + (b.state = 1)::int,
    updated = clock_timestamp()
WHERE b.state < 2
RETURNING instrument_id, (date_part('epoch', time) * 1000)::bigint, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count, open_time, open_seq, close_time, close_seq, state, revision, origin

-- name: replace
-- The exchange's own bars: they win over anything, and are verified. Unchanged verified rows are left alone.
INSERT INTO "candles_{tf}" AS b (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT i, timestamptz 'epoch' + t * interval '1 millisecond', o, h, l, c, v, q, k, n, ot, os, ct, cs, 2,
    CASE WHEN n = 0 AND CAST(:flats AS boolean) THEN 3 ELSE 1 END
FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[]), CAST(:open AS float8[]), CAST(:high AS float8[]),
    CAST(:low AS float8[]), CAST(:close AS float8[]), CAST(:volume AS numeric[]), CAST(:quote_volume AS numeric[]),
    CAST(:taker_buy_volume AS numeric[]), CAST(:trade_count AS bigint[]), CAST(:open_time AS bigint[]),
    CAST(:open_seq AS bigint[]), CAST(:close_time AS bigint[]), CAST(:close_seq AS bigint[]))
    AS u (i, t, o, h, l, c, v, q, k, n, ot, os, ct, cs)
ORDER BY i, t
ON CONFLICT (instrument_id, time) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    volume = excluded.volume, quote_volume = excluded.quote_volume, taker_buy_volume = excluded.taker_buy_volume,
    trade_count = excluded.trade_count,
    open_time = CASE WHEN b.open_seq BETWEEN 1 AND 4611686018427387903 AND excluded.trade_count > 0 THEN b.open_time ELSE excluded.open_time END,
    open_seq = CASE WHEN b.open_seq BETWEEN 1 AND 4611686018427387903 AND excluded.trade_count > 0 THEN b.open_seq ELSE excluded.open_seq END,
    close_time = CASE WHEN b.close_seq > 0 AND excluded.trade_count > 0 THEN b.close_time ELSE excluded.close_time END,
    close_seq = CASE WHEN b.close_seq > 0 AND excluded.trade_count > 0 THEN b.close_seq ELSE excluded.close_seq END,
    state = 2,
    origin = CASE WHEN (b.open, b.high, b.low, b.close, round(b.volume, 8), b.trade_count)
            = (excluded.open, excluded.high, excluded.low, excluded.close, round(excluded.volume, 8), excluded.trade_count)
        THEN b.origin ELSE excluded.origin END,
    revision = b.revision + (b.state > 0 AND (b.open, b.high, b.low, b.close, round(b.volume, 8), round(b.quote_volume, 8), b.trade_count)
        <> (excluded.open, excluded.high, excluded.low, excluded.close, round(excluded.volume, 8),
            round(excluded.quote_volume, 8), excluded.trade_count))::int,
    updated = clock_timestamp()
WHERE b.state < 2 OR (b.open, b.high, b.low, b.close, round(b.volume, 8), round(b.quote_volume, 8), b.trade_count)
    <> (excluded.open, excluded.high, excluded.low, excluded.close, round(excluded.volume, 8),
            round(excluded.quote_volume, 8), excluded.trade_count)
RETURNING instrument_id, (extract(epoch FROM time) * 1000)::bigint

-- name: verify
-- Nobody waits for a verified bar to rest: its `updated` is told to the minute, which compresses to nothing.
UPDATE candles_1m b SET state = 2, updated = date_trunc('minute', clock_timestamp()) FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond' AND b.state < 2
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)

-- name: lock
SAVEPOINT before_lock;
SELECT count(*) FROM (
    SELECT FROM candles_1m WHERE instrument_id = :instrument_id
        AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
    ORDER BY time FOR UPDATE
) l

-- name: lock_packed
-- The same where some of them are compressed. Verified ones stay so: a trade changes none of them.
UPDATE candles_1m SET state = state WHERE instrument_id = :instrument_id AND state < 2
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)

-- name: hold
-- Locks by changing nothing: compressed rows become ordinary ones with it.
UPDATE candles_1m b SET state = b.state FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)
RETURNING b.instrument_id, (extract(epoch FROM b.time) * 1000)::bigint, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count, open_time, open_seq, close_time, close_seq, state, revision, origin

-- name: remove
DELETE FROM indicators_1m b USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz);
DELETE FROM candles_1m b USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)

-- name: read
-- A minute that only has prints without a price (odd lots, say) is no bar yet: its open_time stands at 2^62.
SELECT instrument_id, (extract(epoch FROM time) * 1000)::bigint, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count, open_time, open_seq, close_time, close_seq, state, revision, origin
FROM "candles_{tf}"
WHERE instrument_id = :instrument_id AND open_time < 4611686018427387904
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
ORDER BY time DESC LIMIT :limit

-- name: columns
-- The newest bars as bytes of one width each (candles.COLUMNS), in any order: a third of what rows cost to read. A sum is
-- rounded to 8 decimals, half to even as everywhere: round() goes up from the half, which an even number takes back.
SELECT string_agg(timestamptz_send(time) || float8send(open) || float8send(high) || float8send(low)
    || float8send(close) || float8send(CAST(CASE WHEN min_scale(volume) <= 8 THEN volume
        ELSE round(volume, 8) - CASE WHEN volume * 1e8 % 2 = 0.5 THEN 1e-8 ELSE 0 END END AS float8))
    || float8send(CAST(CASE WHEN min_scale(quote_volume) <= 8 THEN quote_volume
        ELSE round(quote_volume, 8) - CASE WHEN quote_volume * 1e8 % 2 = 0.5 THEN 1e-8 ELSE 0 END END AS float8))
    || int8send(trade_count) || int4send(state) || int4send(revision) || int4send(origin), ''::bytea)
FROM (
    SELECT time, open, high, low, close, volume, quote_volume, trade_count, state, revision, origin
    FROM "candles_{tf}"
    WHERE instrument_id = :instrument_id AND open_time < 4611686018427387904
        AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
    ORDER BY time DESC LIMIT :limit
) AS newest

-- name: read_many
SELECT instrument_id, (extract(epoch FROM time) * 1000)::bigint, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count, open_time, open_seq, close_time, close_seq, state, revision, origin
FROM "candles_{tf}"
WHERE instrument_id = ANY(CAST(:instruments AS int[])) AND open_time < 4611686018427387904
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
ORDER BY instrument_id, time
