-- name: offered
-- What the server could make, whether it has loaded it (without that, CREATE EXTENSION would end the session), what is
-- there, and who asks. An ordinary user may not read shared_preload_libraries, but sees what the library defines.
SELECT (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'),
    EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.disable_load'),
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    (SELECT setting FROM pg_settings WHERE name = 'timescaledb.license'),
    current_setting('server_version'), current_user, current_database()

-- name: installed
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'

-- name: converted
SELECT count(*) FROM timescaledb_information.hypertables
WHERE hypertable_schema = current_schema() AND hypertable_name = ANY(CAST(:tables AS text[]))

-- name: hypertable
SELECT create_hypertable(CAST('"{table}"' AS regclass), by_range('time', CAST(:days AS int) * interval '1 day'),
    create_default_indexes => false, migrate_data => true)

-- name: columnstore_candles
-- An instrument has one bar a time, so `state` orders nothing; but each batch keeps the lowest and the highest value of
-- what it is ordered by, and open bars are found without unpacking the others.
ALTER TABLE "{table}" SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'instrument_id',
    timescaledb.orderby = 'time DESC, state')

-- name: columnstore_indicators
ALTER TABLE "{table}" SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'instrument_id',
    timescaledb.orderby = 'time DESC')

-- name: compression
CALL add_columnstore_policy(CAST('"{table}"' AS regclass), after => CAST(:days AS int) * interval '1 day')

-- name: quality
-- The hours of quality_1h, kept up to date by TimescaleDB; what it has not got to yet is added as one reads.
CREATE MATERIALIZED VIEW quality_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(interval '1 hour', time) AS hour, instrument_id, count(*) AS bars,
    count(*) FILTER (WHERE state > 0) AS closed, count(*) FILTER (WHERE state = 2) AS verified,
    count(*) FILTER (WHERE revision > 0) AS revised, count(*) FILTER (WHERE origin = 1) AS replaced,
    count(*) FILTER (WHERE origin = 3) AS flat, sum(trade_count)::bigint AS trades
FROM candles_1m WHERE open_time < 4611686018427387904
GROUP BY 1, 2 WITH NO DATA

-- name: quality_policy
SELECT add_continuous_aggregate_policy('quality_1h', start_offset => NULL, end_offset => interval '1 hour',
    schedule_interval => interval '10 minutes')

-- name: plain_quality
-- The hours first, then each one's bars by the key: so that a reader of the last day reads a day.
CREATE VIEW quality_1h AS
SELECT h.hour, i.id AS instrument_id, q.*
FROM (
    SELECT date_bin(interval '1 hour', min(a.time), timestamptz 'epoch') AS lo, max(z.time) AS hi FROM instruments i,
        LATERAL (SELECT c.time FROM candles_1m c WHERE c.instrument_id = i.id ORDER BY c.time LIMIT 1) a,
        LATERAL (SELECT c.time FROM candles_1m c WHERE c.instrument_id = i.id ORDER BY c.time DESC LIMIT 1) z
) s, generate_series(s.lo, s.hi, interval '1 hour') AS h (hour), instruments i, LATERAL (
    SELECT count(*) AS bars,
        count(*) FILTER (WHERE c.state > 0) AS closed, count(*) FILTER (WHERE c.state = 2) AS verified,
        count(*) FILTER (WHERE c.revision > 0) AS revised, count(*) FILTER (WHERE c.origin = 1) AS replaced,
        count(*) FILTER (WHERE c.origin = 3) AS flat, sum(c.trade_count)::bigint AS trades
    FROM candles_1m c WHERE c.instrument_id = i.id AND c.time >= h.hour AND c.time < h.hour + interval '1 hour'
        AND c.open_time < 4611686018427387904
) q
WHERE q.bars > 0

-- name: retain
-- What TimescaleDB runs once a day; the names in braces stand in retention.sql. Each step takes the cutoff as it stands
-- and holds it: what is asked to be kept meanwhile is not dropped.
CREATE OR REPLACE PROCEDURE retain_bars(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    item record;
    kind text;
BEGIN
    FOR item IN {cutoffs} FOR SHARE LOOP
        {let_go};
        IF item.timeframe = '1m' THEN
            {let_go_holes};
        END IF;
    END LOOP;
    COMMIT;
    FOREACH kind IN ARRAY ARRAY['candles', 'indicators'] LOOP
        FOR item IN {cutoffs} LOOP
            PERFORM drop_chunks(CAST(format('%I.%I', current_schema(), kind || '_' || item.timeframe) AS regclass),
                older_than => held.cutoff) FROM ({cutoffs} FOR SHARE) held WHERE held.timeframe = item.timeframe;
            COMMIT;
        END LOOP;
    END LOOP;
END
$$

-- name: retain_policy
SELECT add_job('retain_bars', interval '1 day')

-- name: jobs
SELECT job_id FROM timescaledb_information.jobs
WHERE hypertable_name = ANY(CAST(:tables AS text[])) OR proc_name = 'retain_bars' ORDER BY job_id

-- name: copied
-- A hypertable's rows in a plain table; its indexes follow.
CREATE TABLE "{table}_plain" (LIKE "{table}" INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO "{table}_plain" SELECT * FROM "{table}" ORDER BY instrument_id, time

-- name: indexes
SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = :table AND indexname <> :table || '_pkey'

-- name: options
SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = CAST('"{table}"' AS regclass)

-- name: swapped
DROP TABLE "{table}";
ALTER TABLE "{table}_plain" RENAME TO "{table}";
ALTER TABLE "{table}" ADD CONSTRAINT "{table}_pkey" PRIMARY KEY (instrument_id, time)

-- name: view
SELECT pg_get_viewdef(CAST(:view AS regclass))
