-- name: progress
-- In one statement, so in one snapshot: a bar that closes and the mark this leaves are never both missed.
SELECT coalesce((SELECT done FROM feeds WHERE run = :run), 0),
    (SELECT count(*) FROM candles_1m WHERE instrument_id = :instrument_id AND state = 0
        AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)),
    (SELECT count(*) FROM touched WHERE instrument_id = :instrument_id
        AND hi >= CAST(:lo AS timestamptz) AND lo < CAST(:hi AS timestamptz))
