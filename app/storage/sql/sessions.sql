-- name: put
INSERT INTO sessions AS s (calendar, date, open, close)
SELECT :calendar, (timestamp 'epoch' + d * interval '1 millisecond')::date, timestamptz 'epoch' + o * interval '1 millisecond',
    timestamptz 'epoch' + c * interval '1 millisecond'
FROM unnest(CAST(:dates AS bigint[]), CAST(:opens AS bigint[]), CAST(:closes AS bigint[])) AS u (d, o, c) ORDER BY 2
ON CONFLICT (calendar, date) DO UPDATE SET open = excluded.open, close = excluded.close
WHERE (s.open, s.close) <> (excluded.open, excluded.close)

-- name: read
SELECT (extract(epoch FROM date) * 1000)::bigint, (extract(epoch FROM open) * 1000)::bigint, (extract(epoch FROM close) * 1000)::bigint
FROM sessions WHERE calendar = :calendar
    AND close > CAST(:lo AS timestamptz) - interval '1 day'
    AND open < CAST(:hi AS timestamptz) + interval '1 day'
ORDER BY open

-- name: last
SELECT (extract(epoch FROM max(date)) * 1000)::bigint FROM sessions WHERE calendar = :calendar
