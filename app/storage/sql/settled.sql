-- name: until
SELECT instrument_id, (extract(epoch FROM until) * 1000)::bigint FROM settled WHERE instrument_id = ANY(CAST(:instruments AS int[]))

-- name: forward
INSERT INTO settled AS s (instrument_id, until)
VALUES (:instrument_id, CAST(:until AS timestamptz))
ON CONFLICT (instrument_id) DO UPDATE SET until = excluded.until WHERE s.until < excluded.until

-- name: back
UPDATE settled SET until = CAST(:until AS timestamptz)
WHERE instrument_id = :instrument_id AND until > CAST(:until AS timestamptz)

-- name: extend
-- An open hole of the cause that touches the stretch grows; only where there is none, one is made.
WITH w AS (
    SELECT i, timestamptz 'epoch' + l * interval '1 millisecond' AS lo, timestamptz 'epoch' + h * interval '1 millisecond' AS hi
    FROM unnest(CAST(:instruments AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, l, h)
), known AS (
    SELECT o.id, w.i, w.lo, w.hi FROM w JOIN holes o ON o.instrument_id = w.i AND o.cause = :cause AND o.repaired IS NULL
        AND o.lo <= w.hi AND o.hi >= w.lo
), grown AS (
    UPDATE holes o SET lo = least(o.lo, k.lo), hi = greatest(o.hi, k.hi), error = coalesce(CAST(:error AS text), o.error)
    FROM known k WHERE o.id = k.id
        AND (o.lo > k.lo OR o.hi < k.hi OR CAST(:error AS text) IS NOT NULL AND o.error IS DISTINCT FROM CAST(:error AS text))
    RETURNING o.id
), made AS (
    INSERT INTO holes (instrument_id, lo, hi, cause, error)
    SELECT i, lo, hi, :cause, CAST(:error AS text) FROM w
    WHERE NOT EXISTS (SELECT 1 FROM known k WHERE k.i = w.i AND k.lo = w.lo) ORDER BY 1, 2
    RETURNING id
)
SELECT (SELECT count(*) FROM grown) + (SELECT count(*) FROM made)

-- name: filled
-- What was asked for again, [lo, hi), is no hole any more: whole holes close, the rest keeps what lies outside.
WITH w AS (
    SELECT CAST(:lo AS timestamptz) AS lo, CAST(:hi AS timestamptz) AS hi
)
UPDATE holes o SET lo = CASE WHEN o.lo >= w.lo AND o.hi > w.hi THEN w.hi ELSE o.lo END,
    hi = CASE WHEN o.lo < w.lo THEN w.lo ELSE o.hi END,
    attempts = o.attempts + 1, tried = clock_timestamp(),
    repaired = CASE WHEN o.lo >= w.lo AND o.hi <= w.hi THEN clock_timestamp() END,
    error = CASE WHEN o.lo >= w.lo AND o.hi <= w.hi THEN NULL ELSE o.error END
FROM w WHERE o.instrument_id = :instrument_id AND o.cause = :cause AND o.repaired IS NULL AND o.lo < w.hi AND o.hi > w.lo
    AND (o.lo >= w.lo OR o.hi <= w.hi)

-- name: lock
SELECT pg_try_advisory_lock(:key)

-- name: unlock
SELECT pg_advisory_unlock(:key)

-- name: sessions_span
SELECT (extract(epoch FROM min(date)) * 1000)::bigint, (extract(epoch FROM max(date)) * 1000)::bigint
FROM sessions WHERE calendar = :calendar

-- name: drop_sessions
DELETE FROM sessions WHERE calendar = :calendar
    AND date >= (timestamp 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond')::date
    AND date < (timestamp 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond')::date
    AND date <> ALL(SELECT (timestamp 'epoch' + d * interval '1 millisecond')::date FROM unnest(CAST(:dates AS bigint[])) d)

-- name: daily_wanted
-- Stocks whose newest session that is over has no bar of the source's own yet. Asked in vain, twice as long passes
-- until the next time, up to an hour.
WITH due AS (
    SELECT i.id, s.date FROM instruments i, LATERAL (
        SELECT date FROM sessions s WHERE s.calendar = i.calendar
            AND s.close <= CAST(:ended AS timestamptz) ORDER BY s.close DESC LIMIT 1
    ) s WHERE i.active AND i.exchange = :exchange
), lacking AS (
    SELECT d.id, d.date::timestamp AT TIME ZONE 'UTC' AS day,
        (SELECT max(c.time) FROM candles_1d c WHERE c.instrument_id = d.id AND c.origin = 1) AS last,
        (SELECT min(c.time) FROM candles_1d c WHERE c.instrument_id = d.id AND c.origin = 1 AND c.state < 2
            AND c.time >= CAST(:kept AS timestamptz)) AS doubted
    FROM due d
), asked AS (
    SELECT l.id, greatest(coalesce(least(l.last, l.doubted), l.day - CAST(:days AS int) * interval '1 day'),
            CAST(:kept AS timestamptz)) AS lo,
        l.day + interval '1 day' AS hi, l.last < l.day AS further
    FROM lacking l WHERE l.last IS NULL OR l.last < l.day OR l.doubted IS NOT NULL
)
SELECT a.id, (extract(epoch FROM a.lo) * 1000)::bigint, (extract(epoch FROM a.hi) * 1000)::bigint, a.further FROM asked a
WHERE NOT EXISTS (SELECT 1 FROM backfills b WHERE b.instrument_id = a.id AND b.timeframe = '1d' AND b.state IN ('waiting', 'running'))
    AND NOT EXISTS (
        SELECT 1 FROM backfills b WHERE b.instrument_id = a.id AND b.timeframe = '1d' AND b.asked_by = 'daily' AND b.hi = a.hi
        HAVING max(b.updated) > clock_timestamp() - least(3600, 30 * power(2, count(*)) + CASE WHEN bool_or(b.state = 'failed')
            THEN 3600 ELSE 0 END) * interval '1 second')
ORDER BY 1

-- name: ask_daily
-- One that failed takes its row again, so that a source without a key does not fill the table.
WITH w AS (
    SELECT i AS id, timestamptz 'epoch' + l * interval '1 millisecond' AS lo, timestamptz 'epoch' + h * interval '1 millisecond' AS hi
    FROM unnest(CAST(:instruments AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, l, h)
), again AS (
    UPDATE backfills b SET state = 'waiting', cursor = b.lo, error = NULL, updated = clock_timestamp() FROM w
    WHERE b.id = (SELECT max(f.id) FROM backfills f WHERE f.instrument_id = w.id AND f.timeframe = '1d' AND f.asked_by = 'daily'
        AND f.hi = w.hi AND f.state = 'failed')
    RETURNING b.id, b.instrument_id
), made AS (
    INSERT INTO backfills (instrument_id, timeframe, lo, hi, cursor, state, asked_by)
    SELECT w.id, '1d', w.lo, w.hi, w.lo, 'waiting', 'daily' FROM w
    WHERE NOT EXISTS (SELECT 1 FROM again g WHERE g.instrument_id = w.id)
    ORDER BY w.id RETURNING id
)
SELECT id FROM again UNION ALL SELECT id FROM made ORDER BY 1
