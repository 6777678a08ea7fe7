-- name: fast
-- Takes the streams whose ids overlap nothing known; a stream not returned is locked all the same.
INSERT INTO ledger AS l (instrument_id, run, applied)
SELECT * FROM unnest(CAST(:instrument_id AS int[]), CAST(:run AS bigint[]), CAST(:applied AS int8multirange[])) ORDER BY 1, 2
ON CONFLICT (instrument_id, run) DO UPDATE SET applied = l.applied + excluded.applied WHERE NOT l.applied && excluded.applied
RETURNING instrument_id

-- name: known
-- A new statement, so that it sees what the winner of the race committed.
SELECT l.instrument_id, lower(x), upper(x)
FROM unnest(CAST(:instrument_id AS int[]), CAST(:run AS bigint[]), CAST(:applied AS int8multirange[])) v (i, r, mr)
JOIN ledger l ON l.instrument_id = v.i AND l.run = v.r, unnest(l.applied * v.mr) x
ORDER BY 1, 2

-- name: extend
UPDATE ledger l SET applied = l.applied + v.mr
FROM unnest(CAST(:instrument_id AS int[]), CAST(:run AS bigint[]), CAST(:applied AS int8multirange[])) v (i, r, mr)
WHERE l.instrument_id = v.i AND l.run = v.r

-- name: add
INSERT INTO ledger AS l (instrument_id, run, applied) VALUES (:instrument_id, 0, CAST(:applied AS int8multirange))
ON CONFLICT (instrument_id, run) DO UPDATE SET applied = l.applied + excluded.applied

-- name: gaps
-- The missing ids of each contiguous stream: what lies between its first and last known id and is not known.
SELECT l.instrument_id, lower(g), upper(g)
FROM ledger l, unnest(int8multirange(int8range(lower(l.applied), upper(l.applied))) - l.applied) g
WHERE l.run = 0 AND NOT isempty(l.applied) AND l.instrument_id >= :instrument_id
    AND (l.instrument_id, lower(g)) > (CAST(:instrument_id AS int), CAST(:first AS bigint))
ORDER BY 1, 2 LIMIT :limit

-- name: over
-- Locks ledgers of runs that are forgotten; a row that a worker holds is left to the next time.
SELECT l.instrument_id, l.run FROM ledger l
WHERE l.run <> 0 AND NOT EXISTS (SELECT 1 FROM feeds f WHERE f.run = l.run)
    AND NOT EXISTS (SELECT 1 FROM feed_batches b WHERE b.run = l.run)
LIMIT :limit FOR UPDATE OF l SKIP LOCKED

-- name: forget
-- A new statement, so that it sees what a worker committed before its row was locked.
DELETE FROM ledger l USING unnest(CAST(:instruments AS int[]), CAST(:runs AS bigint[])) AS u (i, r)
WHERE l.instrument_id = u.i AND l.run = u.r AND NOT EXISTS (SELECT 1 FROM feeds f WHERE f.run = l.run)
    AND NOT EXISTS (SELECT 1 FROM feed_batches b WHERE b.run = l.run)

-- name: fragments
SELECT instrument_id, run, (SELECT count(*) FROM unnest(applied)) AS pieces FROM ledger
WHERE pg_column_size(applied) > 4000
