-- name: put
-- The exchange's word on 1m bars, kept aside until ours is closed; a first word never takes the place of a revised one.
INSERT INTO official_1m AS o (instrument_id, time, open, high, low, close, volume, quote_volume, taker_buy_volume, trade_count,
    first_id, last_id, revised)
SELECT i, timestamptz 'epoch' + t * interval '1 millisecond', op, h, l, c, v, q, k, n, f, z, r
FROM unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[]), CAST(:open AS float8[]), CAST(:high AS float8[]),
    CAST(:low AS float8[]), CAST(:close AS float8[]), CAST(:volume AS numeric[]), CAST(:quote_volume AS numeric[]),
    CAST(:taker_buy_volume AS numeric[]), CAST(:trade_count AS bigint[]), CAST(:first_id AS bigint[]), CAST(:last_id AS bigint[]),
    CAST(:revised AS boolean[])) AS u (i, t, op, h, l, c, v, q, k, n, f, z, r)
ORDER BY i, t
ON CONFLICT (instrument_id, time) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
    close = excluded.close, volume = excluded.volume, quote_volume = excluded.quote_volume,
    taker_buy_volume = excluded.taker_buy_volume, trade_count = excluded.trade_count, first_id = excluded.first_id,
    last_id = excluded.last_id, revised = excluded.revised, received = clock_timestamp()
WHERE excluded.revised OR NOT o.revised

-- name: put_rollups
INSERT INTO official_rollups AS o (instrument_id, timeframe, time, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count)
SELECT i, tf, timestamptz 'epoch' + t * interval '1 millisecond', op, h, l, c, v, q, k, n
FROM unnest(CAST(:instrument_id AS int[]), CAST(:timeframe AS text[]), CAST(:time AS bigint[]), CAST(:open AS float8[]),
    CAST(:high AS float8[]), CAST(:low AS float8[]), CAST(:close AS float8[]), CAST(:volume AS numeric[]),
    CAST(:quote_volume AS numeric[]), CAST(:taker_buy_volume AS numeric[]), CAST(:trade_count AS bigint[]))
    AS u (i, tf, t, op, h, l, c, v, q, k, n)
ORDER BY i, tf, t
ON CONFLICT (instrument_id, timeframe, time) DO NOTHING

-- name: days
-- From when to when there are words of each UTC day, the newest day first.
SELECT (extract(epoch FROM min(time)) * 1000)::bigint, (extract(epoch FROM max(time)) * 1000)::bigint + 60000
FROM official_1m GROUP BY date_bin(interval '1 day', time, timestamptz 'epoch') ORDER BY 1 DESC

-- name: closed
-- Bars of ours that are closed and of which the exchange has spoken, locked in the order in which everybody locks bars.
SAVEPOINT before_lock;
SELECT c.instrument_id, (extract(epoch FROM c.time) * 1000)::bigint, c.open, c.high, c.low, c.close, c.volume, c.quote_volume,
    c.taker_buy_volume, c.trade_count, c.open_time, c.open_seq, c.close_time, c.close_seq, c.state, c.revision, c.origin
FROM (
    SELECT o.instrument_id, o.time, o.received FROM official_1m o
    WHERE o.time >= CAST(:lo AS timestamptz) AND o.time < CAST(:hi AS timestamptz) ORDER BY 1, 2
) o JOIN candles_1m c ON c.instrument_id = o.instrument_id AND c.time = o.time
    AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
WHERE c.state > 0 OR o.received < clock_timestamp() - CAST(:patience AS float8) * interval '1 second'
ORDER BY 1, 2 LIMIT :limit FOR UPDATE OF c

-- name: absent
-- The exchange has a bar where we have none, and the feed's clock has passed the minute or nobody will bring one any more.
SELECT o.instrument_id, (extract(epoch FROM o.time) * 1000)::bigint
FROM official_1m o
LEFT JOIN unnest(CAST(:instruments AS int[]), CAST(:highs AS bigint[])) AS e (i, hi) ON e.i = o.instrument_id
WHERE o.time >= CAST(:lo AS timestamptz) AND o.time < CAST(:hi AS timestamptz)
    AND (o.time < timestamptz 'epoch' + e.hi * interval '1 millisecond'
        OR o.received < clock_timestamp() - CAST(:patience AS float8) * interval '1 second')
    AND EXISTS (SELECT 1 FROM coverage v WHERE v.instrument_id = o.instrument_id AND v.timeframe = '1m' AND v.stretches @> o.time)
    AND NOT EXISTS (SELECT 1 FROM candles_1m c WHERE c.instrument_id = o.instrument_id AND c.time = o.time
        AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz))
ORDER BY 1, 2 LIMIT :limit

-- name: get
SELECT o.instrument_id, '1m', (extract(epoch FROM o.time) * 1000)::bigint, open, high, low, close, volume, quote_volume,
    taker_buy_volume, trade_count, first_id, last_id, revised
FROM official_1m o JOIN unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
    ON o.instrument_id = u.i AND o.time = timestamptz 'epoch' + u.t * interval '1 millisecond'
ORDER BY 1, 3 FOR UPDATE OF o

-- name: done
DELETE FROM official_1m o USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE o.instrument_id = u.i AND o.time = timestamptz 'epoch' + u.t * interval '1 millisecond'

-- name: rollups
-- Longer bars of the exchange whose counterpart of ours is verified by its minutes.
SELECT o.instrument_id, o.timeframe, (extract(epoch FROM o.time) * 1000)::bigint, o.open, o.high, o.low, o.close, o.volume,
    o.quote_volume, o.taker_buy_volume, o.trade_count
FROM official_rollups o JOIN "candles_{tf}" c ON c.instrument_id = o.instrument_id AND c.time = o.time AND c.state = 2
    AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
WHERE o.timeframe = '{tf}' ORDER BY 1, 3 LIMIT :limit

-- name: rollup_bounds
SELECT (extract(epoch FROM min(time)) * 1000)::bigint, (extract(epoch FROM max(time)) * 1000)::bigint + 1
FROM official_rollups WHERE timeframe = '{tf}'

-- name: rollups_done
DELETE FROM official_rollups o USING unnest(CAST(:instrument_id AS int[]), CAST(:time AS bigint[])) AS u (i, t)
WHERE o.instrument_id = u.i AND o.timeframe = '{tf}' AND o.time = timestamptz 'epoch' + u.t * interval '1 millisecond'

-- name: unverified
-- Closed bars of [lo, hi) that nobody has compared, each longer there than the stream takes to speak.
SELECT instrument_id, (extract(epoch FROM min(time)) * 1000)::bigint, (extract(epoch FROM max(time)) * 1000)::bigint
FROM candles_1m
WHERE state = 1
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
    AND updated < clock_timestamp() - CAST(:quiet AS float8) * interval '1 second'
    AND instrument_id <> ALL(CAST(:resting AS int[]))
GROUP BY 1 ORDER BY 2, 1 LIMIT :limit

-- name: unchecked
-- Streams whose trade ids have gaps: that a minute was quiet is known only when history has no bar for it either.
SELECT s.instrument_id, (extract(epoch FROM coalesce(s.checked, (
    SELECT max(lower(x)) FROM coverage v, unnest(v.stretches) x
    WHERE v.instrument_id = s.instrument_id AND v.timeframe = '1m' AND upper_inf(x)), s.until)) * 1000)::bigint,
    (extract(epoch FROM s.until) * 1000)::bigint
FROM settled s JOIN instruments i ON i.id = s.instrument_id
WHERE i.active AND i.exchange = ANY(CAST(:exchanges AS text[])) AND s.instrument_id <> ALL(CAST(:resting AS int[]))
    AND (s.checked IS NULL OR s.until >= s.checked + CAST(:every AS float8) * interval '1 second')
ORDER BY 2, 1 LIMIT :limit

-- name: checked
UPDATE settled SET checked = greatest(checked, CAST(:checked AS timestamptz))
WHERE instrument_id = :instrument_id

-- name: forget
DELETE FROM official_1m WHERE received < clock_timestamp() - interval '1 day'

-- name: forget_rollups
DELETE FROM official_rollups WHERE received < clock_timestamp() - interval '1 day'

-- name: forget_differences
DELETE FROM differences WHERE found < clock_timestamp() - interval '90 days'
