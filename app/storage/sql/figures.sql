-- name: oldest_open
-- Of each exchange with an open 1m bar since :since: when the oldest one began, in ms.
SELECT i.exchange, (extract(epoch FROM min(c.time)) * 1000)::bigint
FROM candles_1m c JOIN instruments i ON i.id = c.instrument_id
WHERE c.state = 0 AND c.time >= CAST(:since AS timestamptz) AND i.active GROUP BY i.exchange

-- name: open_holes
-- Of each exchange: holes of collected symbols that wait for repair, and for how many seconds the oldest of them.
SELECT i.exchange, count(*), extract(epoch FROM clock_timestamp() - min(h.found))::float8
FROM holes h JOIN instruments i ON i.id = h.instrument_id WHERE h.repaired IS NULL AND i.active GROUP BY i.exchange

-- name: unverified
-- Of each exchange: closed 1m bars since :since that are not verified.
SELECT i.exchange, sum(c.n)::bigint FROM instruments i CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM candles_1m
    WHERE instrument_id = i.id AND state = 1 AND time >= CAST(:since AS timestamptz)
) c GROUP BY i.exchange
