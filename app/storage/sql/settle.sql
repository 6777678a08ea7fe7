-- name: lock
SELECT pg_try_advisory_xact_lock(7001, :shard)

-- name: take
DELETE FROM touched WHERE id IN (
    SELECT id FROM touched WHERE stage = :stage AND instrument_id % :shards = :shard ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
)
RETURNING instrument_id, (extract(epoch FROM lo) * 1000)::bigint, (extract(epoch FROM hi) * 1000)::bigint

-- name: mark
INSERT INTO touched (stage, instrument_id, lo, hi)
SELECT :stage, i, timestamptz 'epoch' + lo * interval '1 millisecond', timestamptz 'epoch' + hi * interval '1 millisecond'
FROM unnest(CAST(:instrument_id AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, lo, hi)

-- name: left
SELECT count(*) FROM touched WHERE instrument_id = :instrument_id AND stage IN ('rollup', 'indicators')
    AND hi >= CAST(:lo AS timestamptz) AND lo <= CAST(:hi AS timestamptz)

-- name: pending
SELECT stage, count(*), min(extract(epoch FROM clock_timestamp() - at))::float8, max(extract(epoch FROM clock_timestamp() - at))::float8
FROM touched GROUP BY stage

-- name: proven_flats
-- Consecutive ids on either side prove that the minutes between two bars were quiet: no clock, no feed is asked.
WITH u AS (
    SELECT * FROM unnest(CAST(:instrument_id AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, lo, hi)
), r AS (
    SELECT u.i, coalesce(p.time, timestamptz 'epoch' + u.lo * interval '1 millisecond') AS a,
        coalesce(n.time, timestamptz 'epoch' + u.hi * interval '1 millisecond') AS z
    FROM u
    LEFT JOIN LATERAL (
        SELECT c.time FROM candles_1m c WHERE c.instrument_id = u.i AND c.origin <> 3
            AND c.time < timestamptz 'epoch' + u.lo * interval '1 millisecond'
            AND c.time >= CAST(:lo AS timestamptz)
        ORDER BY c.time DESC LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT c.time FROM candles_1m c WHERE c.instrument_id = u.i AND c.origin <> 3
            AND c.time > timestamptz 'epoch' + u.hi * interval '1 millisecond'
            AND c.time < CAST(:hi AS timestamptz)
        ORDER BY c.time LIMIT 1
    ) n ON true
), pairs AS (
    SELECT c.instrument_id, c.time, c.close, c.close_seq, c.origin,
        lead(c.time) OVER w AS next_time, lead(c.open_seq) OVER w AS next_seq
    FROM r, LATERAL (
        -- OFFSET 0 keeps the planner at the primary key: it would read the whole table for a join.
        SELECT * FROM candles_1m c WHERE c.instrument_id = r.i AND c.time >= r.a AND c.time <= r.z AND c.origin <> 3
            AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz) OFFSET 0
    ) c
    WINDOW w AS (PARTITION BY r.i, r.a ORDER BY c.time)
)
INSERT INTO candles_1m (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count,
    open_time, open_seq, close_time, close_seq, state, origin)
SELECT DISTINCT ON (instrument_id, g) instrument_id, g, close, close, close, close, 0, 0, 0, 0, us, 0, us, 0, 1, 3
FROM pairs, generate_series(time + interval '1 minute', next_time - interval '1 minute', interval '1 minute') g,
    LATERAL (SELECT (extract(epoch FROM g) * 1000000)::bigint AS us) t
WHERE close_seq > 0 AND next_seq = close_seq + 1 AND next_time > time + interval '1 minute'
ORDER BY 1, 2 ON CONFLICT DO NOTHING
RETURNING instrument_id, (extract(epoch FROM time) * 1000)::bigint

-- name: fix_flats
-- Flat bars follow the close before them when it is revised: those behind the traded bars of [lo, hi] up to the next one.
WITH u AS (
    SELECT * FROM unnest(CAST(:instrument_id AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, lo, hi)
), r AS (
    SELECT u.i, timestamptz 'epoch' + u.lo * interval '1 millisecond' AS a, coalesce(n.time, CAST(:hi AS timestamptz)) AS z
    FROM u LEFT JOIN LATERAL (
        SELECT c.time FROM candles_1m c WHERE c.instrument_id = u.i AND c.origin <> 3
            AND c.time > timestamptz 'epoch' + u.hi * interval '1 millisecond'
            AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
        ORDER BY c.time LIMIT 1
    ) n ON true
), runs AS (
    SELECT c.instrument_id, c.time, c.close, c.origin, c.state,
        count(*) FILTER (WHERE c.origin <> 3) OVER (PARTITION BY r.i, r.a ORDER BY c.time) AS run, r.a
    FROM r, LATERAL (
        SELECT * FROM candles_1m c WHERE c.instrument_id = r.i AND c.time >= r.a AND c.time < r.z
            AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz) OFFSET 0
    ) c
), wrong AS (
    SELECT DISTINCT ON (instrument_id, time) instrument_id, time, before, us FROM (
        SELECT *, first_value(close) OVER (PARTITION BY instrument_id, a, run ORDER BY time) AS before,
            (extract(epoch FROM time) * 1000000)::bigint AS us FROM runs WHERE run > 0
    ) f WHERE origin = 3 AND state < 2 AND close IS DISTINCT FROM before ORDER BY 1, 2
)
-- They are there: a flat bar goes only when another takes its place. As an upsert it locks them in everybody's order.
INSERT INTO candles_1m AS f (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count,
    open_time, open_seq, close_time, close_seq, state, origin)
SELECT instrument_id, time, before, before, before, before, 0, 0, 0, 0, us, 0, us, 0, 1, 3 FROM wrong ORDER BY 1, 2
ON CONFLICT (instrument_id, time) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
    close = excluded.close, revision = f.revision + 1, updated = clock_timestamp()
WHERE f.origin = 3 AND f.state < 2 AND f.close IS DISTINCT FROM excluded.close
RETURNING f.instrument_id, (extract(epoch FROM f.time) * 1000)::bigint

-- name: rollup
-- {tf} from {below}, just the touched buckets. Flat children count only where all are flat. A bar stays open until
-- every child is there and closed; a closed bar gives way only to a complete one. IS TRUE: the planner makes one pass
-- over the children of it, with the buckets in a hash table, where it would compare each with each for a join.
WITH u AS MATERIALIZED (
    SELECT i, timestamptz 'epoch' + t * interval '1 millisecond' AS bucket, whole
    FROM unnest(CAST(:bucket_instruments AS int[]), CAST(:buckets AS bigint[]), CAST(:wholes AS boolean[])) AS u (i, t, whole)
)
INSERT INTO "candles_{tf}" AS r (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume,
    trade_count, open_time, open_seq, close_time, close_seq, state, origin)
SELECT c.instrument_id, date_bin(interval '{length}', c.time, timestamptz 'epoch') AS bucket,
    coalesce((array_agg(c.open ORDER BY c.time) FILTER (WHERE c.trade_count > 0))[1], (array_agg(c.open ORDER BY c.time))[1]),
    coalesce(max(c.high) FILTER (WHERE c.trade_count > 0), max(c.high)),
    coalesce(min(c.low) FILTER (WHERE c.trade_count > 0), min(c.low)),
    coalesce((array_agg(c.close ORDER BY c.time DESC) FILTER (WHERE c.trade_count > 0))[1], (array_agg(c.close ORDER BY c.time DESC))[1]),
    sum(c.volume), sum(c.quote_volume), sum(c.taker_buy_volume), sum(c.trade_count)::bigint,
    coalesce((array_agg(c.open_time ORDER BY c.time) FILTER (WHERE c.trade_count > 0))[1], min(c.open_time)),
    coalesce((array_agg(c.open_seq ORDER BY c.time) FILTER (WHERE c.trade_count > 0))[1], 0),
    coalesce((array_agg(c.close_time ORDER BY c.time DESC) FILTER (WHERE c.trade_count > 0))[1], max(c.close_time)),
    coalesce((array_agg(c.close_seq ORDER BY c.time DESC) FILTER (WHERE c.trade_count > 0))[1], 0),
    CASE WHEN count(*) FILTER (WHERE c.state > 0) = {children} OR bool_and(c.state > 0) AND (c.instrument_id,
        date_bin(interval '{length}', c.time, timestamptz 'epoch')) IN (SELECT i, bucket FROM u WHERE whole) THEN min(c.state)
        ELSE 0 END,
    CASE WHEN bool_and(c.origin = 3) THEN 3 ELSE 2 END
FROM "candles_{below}" c
WHERE ((c.instrument_id, date_bin(interval '{length}', c.time, timestamptz 'epoch')) IN (SELECT i, bucket FROM u)) IS TRUE
    AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
    AND c.instrument_id = ANY(CAST(:instruments AS int[]))
    AND ('{below}' <> '1m' OR c.state > 0)
    -- A stock's 1d is its session's: an evening that ends after midnight UTC is not of that date.
    AND ('{below}' <> '4h' OR (c.instrument_id, c.time) NOT IN (SELECT i, timestamptz 'epoch' + t * interval '1 millisecond'
        FROM unnest(CAST(:other_instruments AS int[]), CAST(:other_times AS bigint[])) AS o (i, t)))
GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (instrument_id, time) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
    quote_volume = excluded.quote_volume, taker_buy_volume = excluded.taker_buy_volume, trade_count = excluded.trade_count,
    open_time = excluded.open_time, open_seq = excluded.open_seq, close_time = excluded.close_time, close_seq = excluded.close_seq,
    state = excluded.state, origin = excluded.origin, updated = clock_timestamp(),
    revision = r.revision + (r.state > 0 AND (r.open, r.high, r.low, r.close, r.volume, r.quote_volume, r.trade_count)
        <> (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.quote_volume, excluded.trade_count))::int
WHERE (excluded.state > 0 OR (r.state = 0 AND r.origin <> 1))
    -- The exchange's own bar gives way to verified ones only, and where a day is the exchange's to say, to none.
    AND NOT (r.origin = 1 AND (r.state = 2 AND excluded.state < 2 OR r.instrument_id = ANY(CAST(:natives AS int[]))))
    -- A roll-up that the exchange's own bar agreed with stays verified while its children are closed and say the same.
    AND NOT (r.state = 2 AND excluded.state < 2 AND (r.open, r.high, r.low, r.close, round(r.volume, 8), r.trade_count)
        = (excluded.open, excluded.high, excluded.low, excluded.close, round(excluded.volume, 8), excluded.trade_count))
    AND (r.open, r.high, r.low, r.close, r.volume, r.quote_volume, r.taker_buy_volume, r.trade_count, r.open_time, r.open_seq,
        r.close_time, r.close_seq, r.state, r.origin)
    IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.quote_volume,
        excluded.taker_buy_volume, excluded.trade_count, excluded.open_time, excluded.open_seq, excluded.close_time,
        excluded.close_seq, excluded.state, excluded.origin)

-- name: doubt_days
-- The source's own days whose minutes changed: not verified any more, so that they are asked for again.
UPDATE candles_1d b SET state = 1 FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond' AND b.origin = 1 AND b.state = 2
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)

-- name: empty
-- Longer bars of which nothing is left below: their only minutes were taken back.
SELECT b.instrument_id, (extract(epoch FROM b.time) * 1000)::bigint
FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
JOIN "candles_{tf}" b ON b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
    AND b.origin IN (2, 3) AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)
WHERE NOT EXISTS (SELECT 1 FROM "candles_{below}" c WHERE c.instrument_id = b.instrument_id
    AND c.time >= b.time AND c.time < b.time + interval '{length}'
    AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:end AS timestamptz)
    AND ('{below}' <> '4h' OR (c.instrument_id, c.time) NOT IN (SELECT i, timestamptz 'epoch' + t * interval '1 millisecond'
        FROM unnest(CAST(:other_instruments AS int[]), CAST(:other_times AS bigint[])) AS o (i, t))))

-- name: clear
DELETE FROM "candles_{tf}" b USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond' AND b.origin IN (2, 3)
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)
RETURNING b.instrument_id, (extract(epoch FROM b.time) * 1000)::bigint

-- name: clear_indicators
DELETE FROM "indicators_{tf}" b USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)
