-- name: begin
-- Takes a backfill up for some seconds; nobody else has it, nor another one that overlaps it in the same series.
UPDATE backfills b SET state = 'running', started = coalesce(b.started, clock_timestamp()), updated = clock_timestamp(),
    error = NULL, not_before = clock_timestamp() + CAST(:lease_s AS float8) * interval '1 second'
WHERE b.id = :id AND b.state IN ('waiting', 'running') AND (b.not_before IS NULL OR b.not_before <= clock_timestamp())
    AND NOT EXISTS (
        SELECT FROM backfills o WHERE o.instrument_id = b.instrument_id AND o.timeframe = b.timeframe AND o.id <> b.id
            AND o.state = 'running' AND o.not_before > clock_timestamp() AND o.lo < b.hi AND o.hi > b.lo)
RETURNING *

-- name: give_way
-- One that could not be taken up because of another waits for it; one that a worker has is left alone.
UPDATE backfills SET state = 'waiting', not_before = clock_timestamp() + interval '3 seconds'
WHERE id = :id AND state IN ('waiting', 'running') AND (not_before IS NULL OR not_before <= clock_timestamp())

-- name: series_lock
SELECT pg_advisory_xact_lock(7010, instrument_id) FROM backfills WHERE id = :id

-- name: listed
-- Newest first; :before is the id that the page before ended with.
SELECT b.*, i.exchange, i.symbol FROM backfills b JOIN instruments i ON i.id = b.instrument_id
WHERE (CAST(:exchange AS text) IS NULL OR i.exchange = :exchange) AND (CAST(:symbol AS text) IS NULL OR i.symbol = :symbol)
    AND (CAST(:ids AS bigint[]) IS NULL OR b.id = ANY(CAST(:ids AS bigint[])))
    AND (NOT :active OR b.state IN ('waiting', 'running')) AND (CAST(:before AS bigint) IS NULL OR b.id < :before)
ORDER BY (:running_first AND b.state = 'running') DESC, b.id DESC LIMIT :limit

-- name: at_work
SELECT count(*) FILTER (WHERE state = 'running'), count(*) FROM backfills WHERE state IN ('waiting', 'running')

-- name: empties
-- Where the source was found to have nothing before its first bar.
SELECT (extract(epoch FROM lo) * 1000)::bigint, (extract(epoch FROM empty_to) * 1000)::bigint FROM backfills
WHERE instrument_id = :instrument_id AND timeframe = :timeframe AND empty_to > lo

-- name: unverified
-- The stretches of the grid of [lo, hi) whose bars are not there verified.
SELECT (extract(epoch FROM before) * 1000)::bigint + :step, (extract(epoch FROM time) * 1000)::bigint FROM (
    SELECT time, lag(time, 1, CAST(:lo AS timestamptz) - interval '{length}') OVER (ORDER BY time) AS before FROM (
        SELECT c.time FROM "candles_{tf}" c WHERE c.instrument_id = :instrument_id AND c.state = 2
            AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
        UNION ALL SELECT CAST(:hi AS timestamptz)
    ) t
) g WHERE time > before + interval '{length}' ORDER BY 1

-- name: doubtful
-- Where flat bars do not tell: the bars of [lo, hi) that are not verified, and the open holes.
SELECT (extract(epoch FROM c.time) * 1000)::bigint, (extract(epoch FROM c.time) * 1000)::bigint + :step
FROM "candles_{tf}" c WHERE c.instrument_id = :instrument_id AND c.state < 2
    AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
UNION ALL
SELECT (extract(epoch FROM greatest(h.lo, CAST(:lo AS timestamptz))) * 1000)::bigint,
    (extract(epoch FROM least(h.hi, CAST(:hi AS timestamptz))) * 1000)::bigint
FROM holes h WHERE '{tf}' = '1m' AND h.instrument_id = :instrument_id AND h.repaired IS NULL
    AND h.hi > CAST(:lo AS timestamptz) AND h.lo < CAST(:hi AS timestamptz)
ORDER BY 1

-- name: count
SELECT count(*) FROM "candles_{tf}" WHERE instrument_id = :instrument_id AND state = 2
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)

-- name: revisions
SELECT (extract(epoch FROM time) * 1000)::bigint, revision FROM "candles_{tf}"
WHERE instrument_id = :instrument_id AND state = 2
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)

-- name: any_before
SELECT EXISTS (SELECT FROM "candles_{tf}" WHERE instrument_id = :instrument_id AND time < CAST(:lo AS timestamptz))
