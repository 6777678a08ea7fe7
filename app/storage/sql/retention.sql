-- name: cutoffs
-- Up to when a timeframe's bars are let go: whole UTC days, so that no longer bar is ever made of half a day's minutes.
-- Hours, not days: a server with another time zone would add its daylight saving.
SELECT timeframe, date_trunc('day', least(now() - keep_days * interval '24 hours', kept_from), 'UTC') AS cutoff
FROM retention WHERE keep_days IS NOT NULL

-- name: settings
SELECT timeframe, keep_days, (extract(epoch FROM kept_from) * 1000)::bigint FROM retention

-- name: put
INSERT INTO retention AS r (timeframe, keep_days)
SELECT * FROM unnest(CAST(:timeframes AS text[]), CAST(:days AS int[])) AS u (timeframe, keep_days) ORDER BY 1
ON CONFLICT (timeframe) DO UPDATE SET keep_days = excluded.keep_days WHERE r.keep_days IS DISTINCT FROM excluded.keep_days

-- name: keep_from
UPDATE retention SET kept_from = least(kept_from, CAST(:since AS timestamptz))
WHERE timeframe = ANY(CAST(:timeframes AS text[]))

-- name: let_go
-- Before anything is deleted: what is let go is claimed no more, and nobody is to compare or to fetch it.
UPDATE coverage c SET stretches = c.stretches - tstzmultirange(tstzrange(NULL, CAST(:cutoff AS timestamptz))) FROM (
    SELECT instrument_id, timeframe FROM coverage
    WHERE timeframe = :timeframe AND stretches && tstzrange(NULL, CAST(:cutoff AS timestamptz))
    ORDER BY 1, 2 FOR UPDATE
) k WHERE c.instrument_id = k.instrument_id AND c.timeframe = k.timeframe;
DELETE FROM official_1m WHERE :timeframe = '1m' AND time < CAST(:cutoff AS timestamptz);
DELETE FROM official_rollups WHERE timeframe = :timeframe AND time < CAST(:cutoff AS timestamptz);
UPDATE backfills SET state = 'cancelled', error = 'older than what is kept', updated = clock_timestamp(), not_before = NULL
WHERE state = 'waiting' AND timeframe = :timeframe AND hi <= CAST(:cutoff AS timestamptz)

-- name: let_go_holes
-- Holes of minutes that are let go are none; one that reaches further keeps its newer part.
WITH k AS MATERIALIZED (
    SELECT id FROM holes WHERE repaired IS NULL AND lo < CAST(:cutoff AS timestamptz) ORDER BY id FOR UPDATE
), gone AS (
    DELETE FROM holes h USING k WHERE h.id = k.id AND h.hi <= CAST(:cutoff AS timestamptz)
)
UPDATE holes h SET lo = CAST(:cutoff AS timestamptz) FROM k WHERE h.id = k.id AND h.hi > CAST(:cutoff AS timestamptz)

-- name: oldest
-- Where each series begins that has bars older than the cutoff: probes of the key.
SELECT id, (extract(epoch FROM first) * 1000)::bigint FROM (
    SELECT i.id, least((SELECT c.time FROM "candles_{tf}" c WHERE c.instrument_id = i.id ORDER BY c.time LIMIT 1),
        (SELECT v.time FROM "indicators_{tf}" v WHERE v.instrument_id = i.id ORDER BY v.time LIMIT 1)) AS first
    FROM instruments i
) s WHERE first < CAST(:cutoff AS timestamptz) ORDER BY 1

-- name: delete
WITH gone AS (
    DELETE FROM "indicators_{tf}" WHERE instrument_id = :instrument_id
        AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
)
DELETE FROM "candles_{tf}" WHERE instrument_id = :instrument_id
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
