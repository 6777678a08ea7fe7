-- name: cover
INSERT INTO coverage AS c (instrument_id, timeframe, stretches)
VALUES (:instrument_id, :timeframe, tstzmultirange(tstzrange(CAST(:lo AS timestamptz), CAST(:hi AS timestamptz))))
ON CONFLICT (instrument_id, timeframe) DO UPDATE SET stretches = c.stretches + excluded.stretches
WHERE NOT c.stretches @> excluded.stretches

-- name: covered
SELECT (extract(epoch FROM lower(s)) * 1000)::bigint, (extract(epoch FROM upper(s)) * 1000)::bigint
FROM coverage c, unnest(c.stretches) s
WHERE c.instrument_id = :instrument_id AND c.timeframe = :timeframe ORDER BY 1

-- name: live_since
-- Where the stretch begins that is open into the future.
SELECT c.instrument_id, (extract(epoch FROM lower(s)) * 1000)::bigint FROM coverage c, unnest(c.stretches) s
WHERE c.instrument_id = ANY(CAST(:instruments AS int[])) AND c.timeframe = '1m' AND upper_inf(s)

-- name: cover_live
INSERT INTO coverage AS c (instrument_id, timeframe, stretches)
SELECT i, '1m', tstzmultirange(tstzrange(timestamptz 'epoch' + lo * interval '1 millisecond', NULL))
FROM unnest(CAST(:instruments AS int[]), CAST(:since AS bigint[])) AS u (i, lo) ORDER BY 1
ON CONFLICT (instrument_id, timeframe) DO UPDATE SET stretches = c.stretches + excluded.stretches
WHERE NOT c.stretches @> excluded.stretches

-- name: last_known
SELECT u.i, (extract(epoch FROM b.time) * 1000)::bigint
FROM unnest(CAST(:instruments AS int[]), CAST(:before AS bigint[])) AS u (i, before), LATERAL (
    SELECT c.time FROM candles_1m c WHERE c.instrument_id = u.i
        AND c.time < timestamptz 'epoch' + u.before * interval '1 millisecond'
        AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
    ORDER BY c.time DESC LIMIT 1
) b

-- name: record_all
INSERT INTO holes (instrument_id, lo, hi, cause)
SELECT i, lo, hi, :cause FROM (
    SELECT i, timestamptz 'epoch' + l * interval '1 millisecond' AS lo, timestamptz 'epoch' + h * interval '1 millisecond' AS hi
    FROM unnest(CAST(:instruments AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, l, h)
) w
WHERE CAST(:again AS boolean) OR NOT EXISTS (
    SELECT 1 FROM holes h WHERE h.instrument_id = w.i AND h.repaired IS NULL AND h.lo <= w.lo AND h.hi >= w.hi)

-- name: record
INSERT INTO holes (instrument_id, lo, hi, cause, first_id, last_id)
SELECT :instrument_id, CAST(:lo AS timestamptz), CAST(:hi AS timestamptz), :cause, :first_id, :last_id
WHERE NOT EXISTS (
    -- A hole half repaired has lost its start: it is known by its ids still.
    SELECT 1 FROM holes h WHERE h.instrument_id = :instrument_id AND h.repaired IS NULL
        AND (h.lo <= CAST(:lo AS timestamptz) AND h.hi >= CAST(:hi AS timestamptz)
            OR h.first_id <= CAST(:first_id AS bigint) AND h.last_id >= CAST(:last_id AS bigint)))

-- name: open
-- Each instrument's hole that has waited longest, then each one's next, so that one with thousands keeps no other from
-- its turn; a hole that is not over by :before takes no place, nor does one whose exchange rests.
SELECT id, instrument_id, (extract(epoch FROM lo) * 1000)::bigint, (extract(epoch FROM hi) * 1000)::bigint, cause, attempts,
    extract(epoch FROM clock_timestamp() - found)::float8, first_id, last_id
FROM (
    SELECT h.*, coalesce(tried, found) AS since,
        row_number() OVER (PARTITION BY instrument_id ORDER BY coalesce(tried, found), id) AS turn
    FROM holes h WHERE repaired IS NULL
        AND (CAST(:before AS timestamptz) IS NULL OR hi <= CAST(:before AS timestamptz))
        AND (CAST(:all AS boolean) OR tried IS NULL
            OR tried < clock_timestamp() - least(300, power(2, least(attempts, 9))) * interval '1 second')
        AND NOT EXISTS (SELECT FROM instruments i WHERE i.id = h.instrument_id AND i.exchange = ANY(CAST(:resting AS text[])))
) w
ORDER BY turn, since, id LIMIT :limit

-- name: repaired
-- One that has grown beyond what was looked at stays.
UPDATE holes h SET repaired = clock_timestamp(), attempts = h.attempts + 1, tried = clock_timestamp(), error = NULL
FROM unnest(CAST(:ids AS bigint[]), CAST(:ends AS bigint[])) AS u (id, hi)
WHERE h.id = u.id AND h.repaired IS NULL AND h.hi <= timestamptz 'epoch' + u.hi * interval '1 millisecond'

-- name: given_up
UPDATE holes SET repaired = clock_timestamp(), tried = clock_timestamp(), error = :reason
WHERE id = ANY(CAST(:ids AS bigint[])) AND repaired IS NULL

-- name: shrink
UPDATE holes SET lo = CAST(:lo AS timestamptz)
WHERE id = ANY(CAST(:ids AS bigint[])) AND lo < CAST(:lo AS timestamptz) AND repaired IS NULL

-- name: failed
UPDATE holes SET attempts = attempts + 1, tried = clock_timestamp(), error = :error WHERE id = ANY(CAST(:ids AS bigint[]))

-- name: hours_around_gap
-- Near which hours the bars around missing ids are, from hours that hold ids before and behind them.
WITH a AS (
    SELECT max(time) AS time FROM candles_1h WHERE instrument_id = :instrument_id AND trade_count > 0 AND close_seq > 0
        AND open_seq < :first
)
SELECT (extract(epoch FROM a.time) * 1000)::bigint, (extract(epoch FROM (
    SELECT min(c.time) + interval '1 hour' FROM candles_1h c WHERE c.instrument_id = :instrument_id AND c.time > a.time
        AND c.trade_count > 0 AND c.open_seq >= :end)) * 1000)::bigint
FROM a

-- name: around_gap
-- The bar that holds the last id before a gap, and the bar that holds the first id after it.
WITH a AS (
    SELECT max(time) AS time FROM candles_1m WHERE instrument_id = :instrument_id AND trade_count > 0 AND close_seq > 0
        AND open_seq < :first AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
)
SELECT (extract(epoch FROM a.time) * 1000)::bigint, (extract(epoch FROM (
    SELECT min(c.time) FROM candles_1m c WHERE c.instrument_id = :instrument_id AND c.time >= a.time AND c.trade_count > 0
        AND c.open_seq > 0 AND c.close_seq >= :end
        AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz))) * 1000)::bigint
FROM a

-- name: unverified
-- How many minutes of [lo, hi) are not there verified.
SELECT (extract(epoch FROM CAST(:hi AS timestamptz) - CAST(:lo AS timestamptz)) / 60)::bigint - count(*) FROM candles_1m
WHERE instrument_id = :instrument_id AND state = 2
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)

-- name: lock
SELECT pg_try_advisory_xact_lock(:key)

-- name: grow
UPDATE holes h SET hi = timestamptz 'epoch' + u.hi * interval '1 millisecond'
FROM unnest(CAST(:instruments AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, lo, hi)
WHERE h.instrument_id = u.i AND h.repaired IS NULL AND h.cause = :cause
    AND h.hi >= timestamptz 'epoch' + u.lo * interval '1 millisecond'
    AND h.lo <= timestamptz 'epoch' + u.hi * interval '1 millisecond'
    AND h.hi < timestamptz 'epoch' + u.hi * interval '1 millisecond'

-- name: start
INSERT INTO holes (instrument_id, lo, hi, cause)
SELECT w.i, w.lo, w.hi, :cause FROM (
    SELECT u.i, greatest(timestamptz 'epoch' + u.lo * interval '1 millisecond', (
        SELECT max(h.hi) FROM holes h WHERE h.instrument_id = u.i AND h.cause = :cause AND h.repaired IS NOT NULL
            AND h.hi > timestamptz 'epoch' + u.lo * interval '1 millisecond')) AS lo,
        timestamptz 'epoch' + u.hi * interval '1 millisecond' AS hi
    FROM unnest(CAST(:instruments AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (i, lo, hi)
) w
WHERE w.lo < w.hi AND NOT EXISTS (
    SELECT 1 FROM holes h WHERE h.instrument_id = w.i AND h.repaired IS NULL AND h.lo <= w.hi AND h.hi >= w.hi)

-- name: standing
-- A live run that moved lately speaks for what it receives; of the others the newest committed time counts.
WITH claimed AS (
    SELECT i.id FROM instruments i JOIN coverage c ON c.instrument_id = i.id AND c.timeframe = '1m' AND upper_inf(c.stretches)
    WHERE i.active AND i.exchange <> 'yahoo'
), heard AS (
    SELECT (s.key)::int AS id, max(f.clock) AS clock,
        bool_or(NOT f.ended AND f.progress > clock_timestamp() - CAST(:still AS float8) * interval '1 second') AS moving
    FROM (SELECT * FROM feeds WHERE kind = 'live' ORDER BY progress DESC LIMIT 100) f, jsonb_each(f.subscribed) s GROUP BY 1
)
SELECT c.id, (extract(epoch FROM h.clock) * 1000)::bigint
FROM claimed c LEFT JOIN heard h USING (id) WHERE NOT coalesce(h.moving, false)

-- name: newest
SELECT u.i, (extract(epoch FROM b.time) * 1000)::bigint
FROM unnest(CAST(:instruments AS int[])) AS u (i), LATERAL (
    SELECT c.time FROM candles_1m c WHERE c.instrument_id = u.i ORDER BY c.time DESC LIMIT 1) b

-- name: missing_minutes
SELECT s.instrument_id, (extract(epoch FROM s.time) * 1000)::bigint + 60000, (extract(epoch FROM s.next) * 1000)::bigint
FROM (
    SELECT instrument_id, time, lead(time) OVER (PARTITION BY instrument_id ORDER BY time) AS next FROM candles_1m
    WHERE instrument_id = ANY(CAST(:instruments AS int[]))
        AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
) s JOIN coverage v ON v.instrument_id = s.instrument_id AND v.timeframe = '1m'
    AND v.stretches @> tstzrange(s.time + interval '1 minute', s.next)
WHERE s.next > s.time + interval '1 minute' AND NOT EXISTS (
    SELECT 1 FROM holes h WHERE h.instrument_id = s.instrument_id AND h.lo <= s.time + interval '1 minute' AND h.hi >= s.next
        AND (h.repaired IS NULL OR h.repaired > clock_timestamp() - interval '1 day'))
ORDER BY 1, 2 LIMIT :limit

-- name: empty_windows
SELECT u.lo, u.hi FROM unnest(CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS u (lo, hi),
    LATERAL (SELECT timestamptz 'epoch' + u.lo * interval '1 millisecond' AS a, timestamptz 'epoch' + u.hi * interval '1 millisecond' AS z) w
WHERE EXISTS (SELECT 1 FROM coverage v WHERE v.instrument_id = :instrument_id AND v.timeframe = '1m'
        AND v.stretches @> tstzrange(w.a, w.z))
    AND NOT EXISTS (SELECT 1 FROM candles_1m c WHERE c.instrument_id = :instrument_id AND c.time >= w.a AND c.time < w.z
        AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz))
    AND NOT EXISTS (SELECT 1 FROM holes h WHERE h.instrument_id = :instrument_id AND h.lo <= w.a AND h.hi >= w.z
        AND (h.repaired IS NULL OR h.repaired > clock_timestamp() - interval '1 day'))
ORDER BY 1

-- name: forget
DELETE FROM holes WHERE repaired < clock_timestamp() - interval '30 days'

-- name: doubted
-- Minutes that an open hole holds in which something is missing: ours makes no claim there.
SELECT u.i, u.t FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE EXISTS (SELECT 1 FROM holes h WHERE h.instrument_id = u.i AND h.repaired IS NULL AND h.cause <> ALL(CAST(:rechecks AS text[]))
    AND h.lo <= timestamptz 'epoch' + u.t * interval '1 millisecond' AND h.hi > timestamptz 'epoch' + u.t * interval '1 millisecond')

-- name: bridge
-- Connections that began while another one of their exchange still received the same: with ids that have no gaps nothing
-- can have been missed in between, so the minutes they began in are in no doubt.
WITH heard AS (
    SELECT f.run, f.exchange, s.key::int AS id, f.clock, timestamptz 'epoch' + s.value::bigint * interval '1 microsecond' AS since
    FROM feeds f, jsonb_each_text(f.subscribed) s
    WHERE f.kind = 'live' AND f.exchange = ANY(CAST(:exchanges AS text[]))
        AND s.key::int IN (SELECT instrument_id FROM holes WHERE repaired IS NULL AND cause = 'connected')
), began AS (
    SELECT h.id, bool_and(EXISTS (SELECT 1 FROM heard p WHERE p.id = n.id AND p.exchange = n.exchange AND p.run <> n.run
        AND p.since <= h.lo AND p.clock >= n.since)) AS bridged
    FROM holes h JOIN heard n ON n.id = h.instrument_id AND n.since >= h.lo AND n.since < h.hi
    WHERE h.repaired IS NULL AND h.cause = 'connected' GROUP BY h.id
)
UPDATE holes h SET repaired = clock_timestamp(), error = NULL FROM began b
WHERE h.id = b.id AND b.bridged AND NOT EXISTS (SELECT 1 FROM holes o WHERE o.instrument_id = h.instrument_id AND o.id <> h.id
    AND o.repaired IS NULL AND o.lo < h.hi AND o.hi > h.lo)

-- name: held_ids
SELECT instrument_id, first_id, last_id FROM holes WHERE repaired IS NULL AND first_id IS NOT NULL
