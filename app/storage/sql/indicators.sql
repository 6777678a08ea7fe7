-- Spans are (instrument, first ms, last ms), both inclusive; :lo and :hi bound all of them, so that few chunks are open.
-- An open minute is no bar yet; an unfinished row of a higher timeframe is one.

-- name: bars
-- One row an instrument: each column as the bytes PostgreSQL sends (big-endian µs since 2000, float8), by time.
SELECT c.instrument_id,
    string_agg(timestamptz_send(c.time), ''::bytea ORDER BY c.time),
    string_agg(float8send(c.high), ''::bytea ORDER BY c.time),
    string_agg(float8send(c.low), ''::bytea ORDER BY c.time),
    string_agg(float8send(c.close), ''::bytea ORDER BY c.time),
    string_agg(float8send(c.volume::float8), ''::bytea ORDER BY c.time)
FROM unnest(CAST(:ids AS int[]), CAST(:los AS bigint[]), CAST(:his AS bigint[])) AS u (id, lo, hi)
JOIN "candles_{tf}" c ON c.instrument_id = u.id
    AND c.time >= timestamptz 'epoch' + u.lo * interval '1 millisecond'
    AND c.time <= timestamptz 'epoch' + u.hi * interval '1 millisecond'
WHERE c.time >= CAST(:lo AS timestamptz) AND c.time <= CAST(:hi AS timestamptz) AND ('{tf}' <> '1m' OR c.state > 0)
GROUP BY c.instrument_id

-- name: amounts
SELECT c.instrument_id, (extract(epoch FROM c.time) * 1000)::bigint, c.volume, c.quote_volume
FROM unnest(CAST(:ids AS int[]), CAST(:los AS bigint[]), CAST(:his AS bigint[])) AS u (id, lo, hi)
JOIN "candles_{tf}" c ON c.instrument_id = u.id
    AND c.time >= timestamptz 'epoch' + u.lo * interval '1 millisecond'
    AND c.time <= timestamptz 'epoch' + u.hi * interval '1 millisecond'
WHERE c.time >= CAST(:lo AS timestamptz) AND c.time <= CAST(:hi AS timestamptz) AND ('{tf}' <> '1m' OR c.state > 0)
ORDER BY 1, 2

-- name: sums
SELECT c.instrument_id, sum(c.volume), sum(c.quote_volume)
FROM unnest(CAST(:ids AS int[]), CAST(:los AS bigint[]), CAST(:his AS bigint[])) AS u (id, lo, hi)
JOIN "candles_{tf}" c ON c.instrument_id = u.id
    AND c.time >= timestamptz 'epoch' + u.lo * interval '1 millisecond'
    AND c.time <= timestamptz 'epoch' + u.hi * interval '1 millisecond'
WHERE c.time >= CAST(:lo AS timestamptz) AND c.time <= CAST(:hi AS timestamptz) AND ('{tf}' <> '1m' OR c.state > 0)
GROUP BY 1

-- name: extents
-- The first and the last bar of each series: probes of the key. The last is looked for from :lo on only.
SELECT u.id, (extract(epoch FROM a.time) * 1000)::bigint, (extract(epoch FROM b.time) * 1000)::bigint
FROM unnest(CAST(:ids AS int[])) AS u (id)
CROSS JOIN LATERAL (SELECT c.time FROM "candles_{tf}" c WHERE c.instrument_id = u.id
    AND ('{tf}' <> '1m' OR c.state > 0) ORDER BY c.time LIMIT 1) a
CROSS JOIN LATERAL (SELECT c.time FROM "candles_{tf}" c WHERE c.instrument_id = u.id
    AND c.time >= CAST(:lo AS timestamptz) AND ('{tf}' <> '1m' OR c.state > 0) ORDER BY c.time DESC LIMIT 1) b

-- name: long
-- Series that begin before :since, and the last bar of each. Nothing before :early is looked at.
SELECT u.id, (extract(epoch FROM b.time) * 1000)::bigint
FROM unnest(CAST(:ids AS int[])) AS u (id)
CROSS JOIN LATERAL (SELECT c.time FROM "candles_{tf}" c WHERE c.instrument_id = u.id
    AND c.time >= CAST(:lo AS timestamptz) AND ('{tf}' <> '1m' OR c.state > 0) ORDER BY c.time DESC LIMIT 1) b
WHERE EXISTS (SELECT FROM "candles_{tf}" c WHERE c.instrument_id = u.id AND ('{tf}' <> '1m' OR c.state > 0)
    AND c.time >= CAST(:early AS timestamptz) AND c.time < CAST(:since AS timestamptz))

-- name: lock
SELECT pg_try_advisory_xact_lock(7002, :shard)

-- name: marks
SELECT id, instrument_id, (extract(epoch FROM lo) * 1000)::bigint, (extract(epoch FROM hi) * 1000)::bigint
FROM touched WHERE stage = 'indicators' AND instrument_id % :shards = :shard ORDER BY id LIMIT :limit

-- name: settle
DELETE FROM touched WHERE id = ANY(CAST(:marks AS bigint[]))

-- name: following
SELECT (extract(epoch FROM c.time) * 1000)::bigint FROM "candles_{tf}" c
WHERE c.instrument_id = :id AND c.time >= CAST(:lo AS timestamptz) AND c.time <= CAST(:hi AS timestamptz)
ORDER BY c.time OFFSET :bars LIMIT 1
