-- How fast a job may go: what the parameters take, and that a slowed job is done like any other.
CREATE TABLE pace (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE pace_1 PARTITION OF pace FOR VALUES FROM (0) TO (1000);
CREATE TABLE pace_2 PARTITION OF pace FOR VALUES FROM (1000) TO (2000);
CREATE INDEX ON pace (v);
INSERT INTO pace SELECT k, 'old' FROM generate_series(0, 1999) AS k;
CREATE VIEW pace_source AS SELECT k, repeat(md5(k::text), 10) AS v FROM pace;

-- what is refused
SELECT backfill_start('pace', 'pace_source', max_wal_rate => 'fast');
SELECT backfill_start('pace', 'pace_source', max_wal_rate => '-8MB');
SELECT backfill_start('pace', 'pace_source', max_wal_rate => '5%');
SELECT backfill_start('pace', 'pace_source', nice_ratio => -1);
SELECT backfill_start('pace', 'pace_source', nice_ratio => 'nan');
SELECT backfill_start('pace', 'pace_source', nice_ratio => NULL);
SELECT backfill_start('pace', 'pace_source', max_replica_lag => '-1 s');
SELECT backfill_start('pace', 'pace_source', min_free_disk => 'some');
SELECT backfill_start('pace', 'pace_source', min_free_disk => '101%');
SELECT backfill_start('pace', 'pace_source', throttle_query => 'SELECT 1; SELECT 2');
SELECT backfill_start('pace', 'pace_source', throttle_query => 'DELETE FROM pace RETURNING true');
SELECT backfill_start('pace', 'pace_source', throttle_query => 'SELECT true FROM pace FOR UPDATE');
SELECT backfill_start('pace', 'pace_source', throttle_query => 'SELECT true FROM nowhere');
SELECT backfill_start('pace', 'pace_source', throttle_query => 'SELECT true, 1');
SELECT backfill_start('pace', 'pace_source', throttle_query => $$SELECT 'now'::text$$);

-- '' and 0 mean no limit
SELECT backfill_start('pace', 'pace_source', max_wal_rate => '', nice_ratio => 0, max_replica_lag => '0',
    throttle_query => '', min_free_disk => '0%', delay => '0', keep_old => false) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT nice_ratio, max_wal_rate, max_replica_lag, throttle_query, min_free_disk_bytes, min_free_disk_ratio FROM backfill_job WHERE job = :job;
SELECT partition, state, throttled_time FROM backfill_progress WHERE job = :job;

-- slowed; what it waited is told, and is part of the time that the builds took
SELECT backfill_start('pace', 'pace_source', max_wal_rate => '1MB', nice_ratio => 0.5, delay => '0', keep_old => false) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT nice_ratio, max_wal_rate, max_replica_lag, throttle_query, min_free_disk_bytes, min_free_disk_ratio FROM backfill_job WHERE job = :job;
SELECT partition, state, rows, throttled_time > '0' AS throttled, throttled_time < build_time AS worked, waiting_on
FROM backfill_progress WHERE job = :job;
-- 1 MB/s, of which half a second may be saved before each build; what a swap writes comes after the build
SELECT sum(wal_bytes) < 1.1 * 1024 * 1024 * (date_part('epoch', sum(build_time)) + 0.5 * count(*)) AS kept
FROM backfill_progress WHERE job = :job;
SELECT count(*), count(*) FILTER (WHERE v = repeat(md5(k::text), 10)) FROM pace;
DROP TABLE pace CASCADE;
