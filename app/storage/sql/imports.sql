-- name: progress
-- In one statement, so in one snapshot: a bar that closes and the mark this leaves are never both missed.
SELECT coalesce((SELECT done FROM feeds WHERE run = :run), 0),
    (SELECT count(*) FROM candles_1m WHERE instrument_id = :instrument_id AND state = 0
        AND time >= timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond'
        AND time < timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond'),
    (SELECT count(*) FROM touched WHERE instrument_id = :instrument_id
        AND hi >= timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond'
        AND lo < timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond')
