-- name: oldest_open
SELECT (extract(epoch FROM min(time)) * 1000)::bigint FROM candles_1m
WHERE state = 0 AND time >= CAST(:lo AS timestamptz) AND instrument_id = ANY(CAST(:instruments AS int[]))

-- name: due
-- What is over, locked in the order in which everybody locks bars.
SAVEPOINT before_lock;
SELECT b.instrument_id, (extract(epoch FROM b.time) * 1000)::bigint FROM candles_1m b
JOIN unnest(CAST(:instrument_id AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]), CAST(:idles AS float8[]))
    AS u (i, lo, hi, idle) ON u.i = b.instrument_id
WHERE b.state = 0 AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)
    AND b.time >= timestamptz 'epoch' + u.lo * interval '1 millisecond'
    AND b.time < timestamptz 'epoch' + u.hi * interval '1 millisecond'
    AND b.updated <= clock_timestamp() - u.idle * interval '1 second'
    AND b.open_time < 4611686018427387904
ORDER BY b.instrument_id, b.time LIMIT 20000 FOR UPDATE OF b SKIP LOCKED

-- name: close
-- Closes what is due and marks it for roll-up in the same transaction. No `state = 0`: the planner, believing that hardly
-- a row is open, would scan the partial index once for each row. `state < 1` says the same, and which of the compressed
-- batches have to be unpacked.
WITH c AS (
    UPDATE candles_1m b SET state = 1 FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
    WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond' AND b.state < 1
        AND b.instrument_id = ANY(CAST(:instruments AS int[]))
        AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)
    RETURNING b.instrument_id, b.time
), marks AS (
    INSERT INTO touched (stage, instrument_id, lo, hi)
    SELECT 'rollup', instrument_id, min(time), max(time) FROM c GROUP BY instrument_id, date_trunc('hour', time)
    RETURNING 1
)
SELECT (SELECT count(*) FROM c), (SELECT count(*) FROM marks)

-- name: unpriced
-- Minutes that are over and never had a print with a price: no bar, as on the exchange itself.
SELECT b.instrument_id, (extract(epoch FROM b.time) * 1000)::bigint
FROM candles_1m b JOIN unnest(CAST(:instrument_id AS int[]), CAST(:highs AS bigint[])) AS u (i, hi) ON u.i = b.instrument_id
WHERE b.state = 0 AND b.open_time = 4611686018427387904 AND b.time < timestamptz 'epoch' + u.hi * interval '1 millisecond'
    AND b.instrument_id = ANY(CAST(:instrument_id AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)

-- name: drop_unpriced
DELETE FROM candles_1m b USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE b.instrument_id = u.i AND b.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
    AND b.state = 0 AND b.open_time = 4611686018427387904
    AND b.instrument_id = ANY(CAST(:instruments AS int[]))
    AND b.time >= CAST(:lo AS timestamptz) AND b.time < CAST(:hi AS timestamptz)

-- name: settle
-- Up to where an instrument without flat bars is complete; only a step of a minute is written.
INSERT INTO settled AS s (instrument_id, until)
SELECT u.i, timestamptz 'epoch' + u.t * interval '1 millisecond'
FROM unnest(CAST(:instrument_id AS int[]), CAST(:highs AS bigint[])) AS u (i, t)
LEFT JOIN settled o ON o.instrument_id = u.i -- a conflict locks its row, even where nothing changes
WHERE o.until IS NULL OR o.until < timestamptz 'epoch' + u.t * interval '1 millisecond' ORDER BY 1
ON CONFLICT (instrument_id) DO UPDATE SET until = excluded.until WHERE s.until < excluded.until

-- name: ripening
-- Whether there is an open bar of a stock whose end has passed.
SELECT '{tf}' WHERE EXISTS (SELECT FROM "candles_{tf}" b JOIN settled s ON s.instrument_id = b.instrument_id
    WHERE b.state = 0 AND b.time + interval '{length}' <= s.until AND b.time >= CAST(:lo AS timestamptz))

-- name: ripe
-- Open bars of stocks whose end has passed: without flat minutes nothing else says that they are over.
WITH b AS MATERIALIZED (
    SELECT b.instrument_id, b.time, b.time + interval '{length}' AS over
    FROM "candles_{tf}" b JOIN settled s ON s.instrument_id = b.instrument_id
    WHERE b.state = 0 AND b.time + interval '{length}' <= s.until AND b.time >= CAST(:lo AS timestamptz)
)
INSERT INTO touched (stage, instrument_id, lo, hi)
SELECT 'rollup', b.instrument_id, b.time, b.time FROM b
WHERE NOT EXISTS (SELECT 1 FROM holes h WHERE h.instrument_id = b.instrument_id AND h.repaired IS NULL
        AND h.lo < b.over AND h.hi > b.time AND h.cause <> ALL(CAST(:rechecks AS text[])))
    AND EXISTS (SELECT 1 FROM coverage v WHERE v.instrument_id = b.instrument_id AND v.timeframe = '1m'
        AND v.stretches @> tstzrange(b.time, b.over))
    AND NOT EXISTS (SELECT 1 FROM candles_1m m WHERE m.instrument_id = b.instrument_id AND m.state = 0
        AND m.time >= b.time AND m.time < b.over AND m.time >= CAST(:lo AS timestamptz))
    -- What is marked already waits its turn.
    AND NOT EXISTS (SELECT 1 FROM touched t WHERE t.stage = 'rollup' AND t.instrument_id = b.instrument_id AND t.lo = b.time)
ORDER BY b.time LIMIT 2000
RETURNING instrument_id

-- name: settled_until
SELECT (extract(epoch FROM max(until)) * 1000)::bigint FROM settled

-- name: whole
-- Buckets of instruments without flat bars that are complete with what is there: settled, covered, without a hole.
SELECT u.i, u.t FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t),
    LATERAL (SELECT timestamptz 'epoch' + u.t * interval '1 millisecond' AS lo,
        timestamptz 'epoch' + u.t * interval '1 millisecond' + interval '{length}' AS hi) b
WHERE EXISTS (SELECT 1 FROM coverage v WHERE v.instrument_id = u.i AND v.timeframe = '1m' AND v.stretches @> tstzrange(b.lo, b.hi)
        AND (EXISTS (SELECT 1 FROM settled s WHERE s.instrument_id = u.i AND s.until >= b.hi)
            OR EXISTS (SELECT 1 FROM unnest(v.stretches) x WHERE x @> tstzrange(b.lo, b.hi) AND NOT upper_inf(x))))
    AND NOT EXISTS (SELECT 1 FROM holes h WHERE h.instrument_id = u.i AND h.repaired IS NULL AND h.lo < b.hi AND h.hi > b.lo
        AND h.cause <> ALL(CAST(:rechecks AS text[])))
    AND NOT EXISTS (SELECT 1 FROM candles_1m m WHERE m.instrument_id = u.i AND m.state = 0 AND m.time >= b.lo AND m.time < b.hi
        AND m.time >= CAST(:lo AS timestamptz) AND m.time < CAST(:hi AS timestamptz))

-- name: trailing_flats
-- Quiet minutes at the edge: the feed was connected and its committed clock has passed them.
WITH made AS (
    INSERT INTO candles_1m (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count,
        open_time, open_seq, close_time, close_seq, state, origin)
    SELECT u.i, g, p.close, p.close, p.close, p.close, 0, 0, 0, 0, us, 0, us, 0, 1, 3
    FROM unnest(CAST(:instrument_id AS int[]), CAST(:sinces AS bigint[]), CAST(:highs AS bigint[])) AS u (i, since, hi),
        LATERAL (
            SELECT c.time, c.close FROM candles_1m c
            WHERE c.instrument_id = u.i AND c.time < timestamptz 'epoch' + u.hi * interval '1 millisecond'
                AND c.time >= timestamptz 'epoch' + u.since * interval '1 millisecond'
                AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
            ORDER BY c.time DESC LIMIT 1
        ) p,
        generate_series(p.time + interval '1 minute', timestamptz 'epoch' + u.hi * interval '1 millisecond' - interval '1 minute',
            interval '1 minute') g,
        LATERAL (SELECT (extract(epoch FROM g) * 1000000)::bigint AS us) t
    ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING instrument_id, time
), marks AS (
    INSERT INTO touched (stage, instrument_id, lo, hi)
    SELECT 'rollup', instrument_id, min(time), max(time) FROM made GROUP BY instrument_id, date_trunc('hour', time)
    RETURNING 1
)
SELECT (SELECT count(*) FROM made), (SELECT count(*) FROM marks)

-- name: open_left
SELECT count(*) FROM candles_1m WHERE state = 0 AND instrument_id = :instrument_id
    AND time >= CAST(:lo AS timestamptz) AND time <= CAST(:hi AS timestamptz)
