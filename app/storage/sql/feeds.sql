-- name: record
-- A batch's place in its run, in the transaction of its bars; a redelivered batch adds nothing.
INSERT INTO feed_batches (run, n, upto, accepted, known, refused, hi)
SELECT :run, :n, timestamptz 'epoch' + CAST(:upto AS bigint) * interval '1 microsecond', :accepted, :known, :refused, CAST(:hi AS timestamptz)
WHERE NOT EXISTS (SELECT 1 FROM feeds WHERE run = :run AND done >= :n)
ON CONFLICT DO NOTHING

-- name: open
INSERT INTO feeds AS f (run, exchange, kind, shard, since, subscribed, subscribed_n, last_n)
VALUES (:run, :exchange, :kind, :shard, timestamptz 'epoch' + CAST(:since AS bigint) * interval '1 microsecond',
    coalesce(CAST(:subscribed AS jsonb), '{}'), CASE WHEN CAST(:subscribed AS jsonb) IS NULL THEN 0 ELSE CAST(:n AS bigint) END,
    CASE WHEN :over THEN CAST(:n AS bigint) END)
ON CONFLICT (run) DO UPDATE SET
    subscribed = CASE WHEN excluded.subscribed_n > f.subscribed_n THEN excluded.subscribed ELSE f.subscribed END,
    subscribed_n = greatest(f.subscribed_n, excluded.subscribed_n),
    last_n = coalesce(excluded.last_n, f.last_n)
WHERE excluded.subscribed_n > f.subscribed_n OR (excluded.last_n IS NOT NULL AND f.last_n IS NULL)

-- name: exists
SELECT 1 FROM feeds WHERE run = :run

-- name: subscribed
SELECT subscribed FROM feeds WHERE run = :run

-- name: lock
SELECT pg_try_advisory_xact_lock(7003)

-- name: strays
DELETE FROM feed_batches b USING feeds f WHERE f.run = b.run AND b.n <= f.done

-- name: fold
-- The contiguous prefix of batch numbers is the clock: batches out of order never advance it too far. A live run that
-- was taken for silent and speaks again has not ended.
WITH x AS (
    SELECT run, max(n) AS n, max(upto) AS upto, sum(accepted) AS accepted, sum(known) AS known, sum(refused) AS refused,
        max(hi) AS hi
    FROM (
        SELECT b.*, b.n - row_number() OVER (PARTITION BY b.run ORDER BY b.n) - f.done AS g
        FROM feed_batches b JOIN feeds f USING (run) WHERE b.n > f.done
    ) s WHERE g = 0 GROUP BY run
)
UPDATE feeds f SET done = x.n, clock = greatest(f.clock, x.upto), accepted = f.accepted + x.accepted,
    known = f.known + x.known, refused = f.refused + x.refused, hi = greatest(f.hi, x.hi), progress = clock_timestamp(),
    ended = CASE WHEN f.kind = 'live' THEN x.n >= coalesce(f.last_n, 9223372036854775807) ELSE f.ended END
FROM x WHERE f.run = x.run
RETURNING f.run

-- name: skip
-- A batch that never came holds the clock no longer than :wait; its number is skipped and reported as a hole. Not so
-- an import's: it is done when every batch is applied, and a killed worker's batch comes later than :wait.
WITH late AS (
    SELECT f.run, f.done, min(b.n) AS next, min(b.at) AS at FROM feeds f JOIN feed_batches b ON b.run = f.run AND b.n > f.done
    WHERE f.kind = 'live' GROUP BY f.run, f.done
    HAVING min(b.n) > f.done + 1 AND min(b.at) < clock_timestamp() - CAST(:wait AS float8) * interval '1 second'
)
UPDATE feeds f SET done = late.next - 1, progress = clock_timestamp() FROM late WHERE f.run = late.run
RETURNING f.run, f.exchange, f.kind, late.done + 1, late.next - 1, (extract(epoch FROM f.clock) * 1000000)::bigint

-- name: live
SELECT run, exchange, kind, shard, (extract(epoch FROM since) * 1000000)::bigint, (extract(epoch FROM clock) * 1000000)::bigint,
    subscribed, done, last_n, ended, (extract(epoch FROM hi) * 1000)::bigint,
    extract(epoch FROM clock_timestamp() - progress)::float8
FROM feeds WHERE NOT ended OR run = ANY(CAST(:also AS bigint[])) ORDER BY run

-- name: one
SELECT accepted, known, refused, done, last_n, ended, (extract(epoch FROM since) * 1000)::bigint,
    (extract(epoch FROM hi) * 1000)::bigint
FROM feeds WHERE run = :run

-- name: end
UPDATE feeds SET ended = true WHERE run = :run

-- name: end_silent
-- A streamer that was killed says nothing more; nor does an import, which may stand still for long, though.
UPDATE feeds f SET ended = true
WHERE NOT f.ended AND f.progress < clock_timestamp()
    - CASE WHEN f.kind = 'live' THEN CAST(:wait AS float8) * interval '1 second' ELSE interval '1 day' END
RETURNING f.run

-- name: forget
DELETE FROM feeds WHERE ended AND progress < clock_timestamp() - interval '1 day'

-- name: forget_batches
-- What was left of runs that are forgotten.
DELETE FROM feed_batches b WHERE b.at < clock_timestamp() - interval '1 day'
    AND NOT EXISTS (SELECT 1 FROM feeds f WHERE f.run = b.run)

-- name: trace
-- What is known of batch :n of :run: its run, and its own row as long as the clock has not passed it.
SELECT f.exchange, f.kind, f.shard, extract(epoch FROM f.since)::float8, extract(epoch FROM f.clock)::float8, f.done, f.ended,
    f.last_n, extract(epoch FROM b.at)::float8, extract(epoch FROM b.upto)::float8, b.accepted, b.known, b.refused
FROM feeds f LEFT JOIN feed_batches b ON b.run = f.run AND b.n = :n
WHERE f.run = :run
