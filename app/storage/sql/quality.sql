-- name: gaps
-- The newest open holes that are no mere re-checks, of some instruments, that touch [lo, hi).
SELECT instrument_id, (extract(epoch FROM lo) * 1000)::bigint, (extract(epoch FROM hi) * 1000)::bigint, cause,
    (extract(epoch FROM found) * 1000)::bigint
FROM holes
WHERE repaired IS NULL AND instrument_id = ANY(CAST(:instruments AS int[])) AND NOT cause = ANY(CAST(:rechecks AS text[]))
    AND (CAST(:lo AS bigint) IS NULL OR hi > timestamptz 'epoch' + CAST(:lo AS bigint) * interval '1 millisecond')
    AND (CAST(:hi AS bigint) IS NULL OR lo < timestamptz 'epoch' + CAST(:hi AS bigint) * interval '1 millisecond')
ORDER BY holes.lo DESC LIMIT :limit

-- name: holes
-- Newest first; :before is the id that the page before ended with. With :skip only those that `waiting_holes` counts.
SELECT h.id, i.exchange, i.symbol, (extract(epoch FROM h.lo) * 1000)::bigint AS start,
    (extract(epoch FROM h.hi) * 1000)::bigint AS end, h.cause, (extract(epoch FROM h.found) * 1000)::bigint AS found,
    (extract(epoch FROM h.repaired) * 1000)::bigint AS repaired, h.attempts,
    (extract(epoch FROM h.tried) * 1000)::bigint AS tried,
    -- as the block `open` of holes.sql has it
    CASE WHEN h.repaired IS NULL THEN (extract(epoch FROM coalesce(h.tried
        + least(300, power(2, least(h.attempts, 9))) * interval '1 second', h.found)) * 1000)::bigint END AS next_try,
    h.error, h.first_id, h.last_id
FROM holes h JOIN instruments i ON i.id = h.instrument_id
WHERE (CAST(:exchange AS text) IS NULL OR i.exchange = :exchange) AND (CAST(:symbol AS text) IS NULL OR i.symbol = :symbol)
    AND (NOT :open OR h.repaired IS NULL) AND (CAST(:before AS bigint) IS NULL OR h.id < :before)
    AND (CAST(:skip AS text[]) IS NULL OR i.active AND i.exchange <> ALL(CAST(:skip AS text[])))
ORDER BY h.id DESC LIMIT :limit

-- name: differences
SELECT d.id, i.exchange, i.symbol, d.timeframe, (extract(epoch FROM d.time) * 1000)::bigint AS time, d.source, d.fields,
    d.ours, d.theirs, (extract(epoch FROM d.found) * 1000)::bigint AS found
FROM differences d JOIN instruments i ON i.id = d.instrument_id
WHERE (CAST(:exchange AS text) IS NULL OR i.exchange = :exchange) AND (CAST(:symbol AS text) IS NULL OR i.symbol = :symbol)
    AND (CAST(:before AS bigint) IS NULL OR d.id < :before)
ORDER BY d.id DESC LIMIT :limit

-- name: verification
-- Per exchange: the completed 1m bars of the hours since :since, how many are verified, and the differences found there.
SELECT i.exchange, coalesce(sum(q.closed), 0)::bigint AS closed, coalesce(sum(q.verified), 0)::bigint AS verified,
    coalesce(sum(d.n), 0)::bigint AS differences
FROM instruments i
LEFT JOIN (
    SELECT instrument_id, sum(closed) AS closed, sum(verified) AS verified FROM quality_1h
    WHERE hour >= CAST(:since AS timestamptz) GROUP BY 1
) q ON q.instrument_id = i.id
LEFT JOIN LATERAL (
    SELECT count(*) AS n FROM differences d WHERE d.instrument_id = i.id AND d.time >= CAST(:since AS timestamptz)
) d ON true
GROUP BY i.exchange ORDER BY i.exchange

-- name: last_trades
-- The newest trade of each active instrument, and up to when its minutes since :since are verified.
SELECT i.exchange, i.symbol, i.calendar, c.close AS price, c.time_ms, v.time_ms AS verified_ms
FROM instruments i
LEFT JOIN LATERAL (
    SELECT close, greatest(close_time / 1000, (extract(epoch FROM time) * 1000)::bigint) AS time_ms
    FROM candles_1m WHERE instrument_id = i.id AND volume > 0 AND open_time < 4611686018427387904
    ORDER BY time DESC LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT (extract(epoch FROM time) * 1000)::bigint + 60000 AS time_ms FROM candles_1m
    WHERE instrument_id = i.id AND state = 2 AND time >= CAST(:since AS timestamptz) ORDER BY time DESC LIMIT 1
) v ON true
WHERE i.active ORDER BY i.id

-- name: clocks
-- Up to when everything that the live feed of an exchange brought is stored, in ms.
SELECT exchange, (extract(epoch FROM min(clock)) * 1000)::bigint FROM feeds
WHERE kind = 'live' AND NOT ended AND clock IS NOT NULL GROUP BY exchange ORDER BY exchange

-- name: waiting_holes
-- Nobody waits for those of symbols that are not collected, nor for those of the exchanges :skip.
SELECT count(*), count(*) FILTER (WHERE h.found < now() - CAST(:late AS float8) * interval '1 second')
FROM holes h JOIN instruments i ON i.id = h.instrument_id
WHERE h.repaired IS NULL AND i.active AND i.exchange <> ALL(CAST(:skip AS text[]))
