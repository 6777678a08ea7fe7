-- name: server
SELECT current_setting('server_version'), current_database(), pg_database_size(current_database()),
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')

-- name: size
SELECT current_setting('server_version'), pg_database_size(current_database()),
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')

-- name: connections
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()

-- name: sessions
-- Who of the platform is connected beside us.
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'market %' GROUP BY 1 ORDER BY 1

-- name: tables
-- The estimates of the last vacuum or analyze; -1 before the first.
SELECT c.relname, c.reltuples::bigint, pg_total_relation_size(c.oid) FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY 1

-- name: hypertables
SELECT h.hypertable_name, approximate_row_count(t.oid), hypertable_size(t.oid), h.num_chunks,
    coalesce(s.number_compressed_chunks, 0), s.before_compression_total_bytes, s.after_compression_total_bytes
FROM timescaledb_information.hypertables h
CROSS JOIN LATERAL (SELECT format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass AS oid) t
LEFT JOIN LATERAL hypertable_columnstore_stats(t.oid) s ON true
WHERE h.hypertable_schema = current_schema() ORDER BY 1

-- name: jobs
SELECT j.job_id, j.proc_name, j.hypertable_name, extract(epoch FROM j.schedule_interval)::float8, j.scheduled,
    (extract(epoch FROM nullif(s.last_run_started_at, '-infinity')) * 1000)::bigint, s.last_run_status,
    (extract(epoch FROM nullif(j.next_start, '-infinity')) * 1000)::bigint, coalesce(s.total_runs, 0), coalesce(s.total_failures, 0)
FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
WHERE j.hypertable_name = ANY(CAST(:tables AS text[])) OR j.hypertable_name = 'quality_1h' OR j.proc_name = 'retain_bars'
ORDER BY 1

-- name: retention
SELECT r.timeframe, r.keep_days, (extract(epoch FROM r.kept_from) * 1000)::bigint, (extract(epoch FROM c.cutoff) * 1000)::bigint
FROM retention r LEFT JOIN ({cutoffs}) c ON c.timeframe = r.timeframe
