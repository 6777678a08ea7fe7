-- name: oldest_open
SELECT (extract(epoch FROM min(time)) * 1000)::bigint FROM candles_1m WHERE state = 0

-- name: close
-- Closes what is due and marks it for roll-up in the same transaction. No `state = 0` in the UPDATE: the planner,
-- believing that hardly a row is open, would scan the partial index once for each row.
WITH due AS MATERIALIZED (
    SELECT b.instrument_id, b.time FROM candles_1m b
    JOIN unnest(CAST(:instrument_id AS int[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]), CAST(:idles AS float8[]))
        AS u (i, lo, hi, idle) ON u.i = b.instrument_id
    WHERE b.state = 0
        AND b.time >= timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond'
        AND b.time < timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond'
        AND b.time >= timestamptz 'epoch' + u.lo * interval '1 millisecond'
        AND b.time < timestamptz 'epoch' + u.hi * interval '1 millisecond'
        AND b.updated <= clock_timestamp() - u.idle * interval '1 second'
    ORDER BY 1, 2 LIMIT 20000 FOR UPDATE OF b SKIP LOCKED
), c AS (
    UPDATE candles_1m b SET state = 1 FROM due
    WHERE b.instrument_id = due.instrument_id AND b.time = due.time
        AND b.time >= timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond'
        AND b.time < timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond'
    RETURNING b.instrument_id, b.time
), marks AS (
    INSERT INTO touched (stage, instrument_id, lo, hi)
    SELECT 'rollup', instrument_id, min(time), max(time) FROM c GROUP BY instrument_id, date_trunc('hour', time)
    RETURNING 1
)
SELECT (SELECT count(*) FROM c), (SELECT count(*) FROM marks)

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
                AND c.time >= timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond'
                AND c.time < timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond'
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
    AND time >= timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond'
    AND time <= timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond'
