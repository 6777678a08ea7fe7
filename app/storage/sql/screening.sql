-- What a screen of all instruments is made of. :lo and :hi are constant, so that few chunks are open, and each instrument
-- costs two probes of a key: reading a day of 500 instruments to keep the last bar of each would be 700,000 rows of 1m.

-- name: newest
-- The newest completed bar of each instrument with its indicators, and the close before it. Values come a moment after
-- their bar: until then the bar before, which has them, is the one to judge by.
SELECT DISTINCT ON (n.id) n.id, (extract(epoch FROM b.time) * 1000)::bigint, b.open, b.high, b.low, b.close, b.before, b.volume::float8,
    b.quote_volume::float8, b.trade_count, {indicators}
FROM unnest(CAST(:ids AS int[])) AS n (id)
CROSS JOIN LATERAL (
    SELECT c.*, lead(c.close) OVER (ORDER BY c.time DESC) AS before, row_number() OVER (ORDER BY c.time DESC) AS place
    FROM (
        SELECT c.time, c.open, c.high, c.low, c.close, c.volume, c.quote_volume, c.trade_count FROM "candles_{tf}" c
        WHERE c.instrument_id = n.id AND c.state > 0 AND c.open_time < 4611686018427387904
            AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
        ORDER BY c.time DESC LIMIT 3
    ) c
) b
LEFT JOIN LATERAL (
    SELECT i.* FROM "indicators_{tf}" i WHERE i.instrument_id = n.id AND i.time = b.time
        AND i.time >= CAST(:lo AS timestamptz) AND i.time < CAST(:hi AS timestamptz)
) i ON true
WHERE b.place = 1 OR (b.place = 2 AND i.time IS NOT NULL)
ORDER BY n.id, i.time IS NULL, b.time DESC

-- name: days
-- Ninety-six quarter hours an instrument come to one row here: as rows of their own, reading them costs ten times this.
SELECT instrument_id,
    (array_agg(close ORDER BY time DESC) FILTER (WHERE time < CAST(:since AS timestamptz)))[1],
    (array_agg(open ORDER BY time) FILTER (WHERE time >= CAST(:since AS timestamptz)))[1],
    max(high) FILTER (WHERE time >= CAST(:since AS timestamptz)),
    min(low) FILTER (WHERE time >= CAST(:since AS timestamptz)),
    coalesce(array_agg(close ORDER BY time) FILTER (WHERE time >= CAST(:since AS timestamptz)), '{}'),
    sum(volume) FILTER (WHERE time >= CAST(:since AS timestamptz)),
    sum(quote_volume) FILTER (WHERE time >= CAST(:since AS timestamptz)),
    max(greatest(close_time / 1000, (extract(epoch FROM time) * 1000)::bigint)) FILTER (WHERE volume > 0)
FROM "candles_15m"
WHERE instrument_id = ANY(CAST(:ids AS int[])) AND open_time < 4611686018427387904
    AND time >= CAST(:lo AS timestamptz) AND time < CAST(:hi AS timestamptz)
GROUP BY instrument_id

-- name: last_minutes
SELECT c.instrument_id, (extract(epoch FROM c.time) * 1000)::bigint, c.open, c.high, c.low, c.close, c.volume,
    c.quote_volume, c.taker_buy_volume, c.trade_count, c.open_time, c.open_seq, c.close_time, c.close_seq, c.state,
    c.revision, c.origin
FROM unnest(CAST(:ids AS int[])) AS n (id)
CROSS JOIN LATERAL (
    SELECT * FROM candles_1m c WHERE c.instrument_id = n.id AND c.open_time < 4611686018427387904
        AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
    ORDER BY c.time DESC LIMIT 1
) c

-- name: minutes
-- The LIMIT keeps the planner from reading every instrument's half hour to join it: each begins where its own is known.
SELECT c.instrument_id, (extract(epoch FROM c.time) * 1000)::bigint, c.open, c.high, c.low, c.close, c.volume,
    c.quote_volume, c.taker_buy_volume, c.trade_count, c.open_time, c.open_seq, c.close_time, c.close_seq, c.state,
    c.revision, c.origin
FROM unnest(CAST(:ids AS int[]), CAST(:los AS bigint[])) AS n (id, lo)
CROSS JOIN LATERAL (
    SELECT * FROM candles_1m c WHERE c.instrument_id = n.id AND c.open_time < 4611686018427387904
        AND c.time >= timestamptz 'epoch' + n.lo * interval '1 millisecond'
        AND c.time >= CAST(:lo AS timestamptz) AND c.time < CAST(:hi AS timestamptz)
    ORDER BY c.time LIMIT 1500
) c
ORDER BY c.instrument_id, c.time
