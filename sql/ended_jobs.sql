-- Jobs that have ended: what the view says of them, and how they leave the control tables.
CREATE SCHEMA ended_jobs;
SET search_path = ended_jobs, public;
SET client_min_messages = warning;
\set VERBOSITY terse

CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (20) TO (30);
CREATE TABLE t_4 PARTITION OF t FOR VALUES FROM (30) TO (40);
INSERT INTO t SELECT g, g FROM generate_series(0, 39) AS g;

-- The figures of a job that has ended are kept; without them they are counted.
CREATE FUNCTION figures(number bigint) RETURNS text LANGUAGE sql AS
$$SELECT concat_ws(' ', state, partitions, pending, running, ready, done, failed, skipped, percent, bar, rows, eta, waiting_on) FROM backfill_status WHERE job = number$$;
CREATE PROCEDURE check_figures(number bigint, title text) LANGUAGE plpgsql AS $$
DECLARE
    kept text := figures(number);
    kept_speed numeric := (SELECT rows_per_second FROM backfill_status WHERE job = number);
BEGIN
    RAISE INFO '%: kept %', title, (SELECT partitions IS NOT NULL FROM backfill_job WHERE job = number);
    RAISE INFO '%: %', title, kept;
    UPDATE backfill_job SET partitions = NULL, pending = NULL, done = NULL, failed = NULL, skipped = NULL, percent = NULL, rows = NULL,
                            rows_per_second = NULL
    WHERE job = number;
    IF figures(number) <> kept OR (SELECT rows_per_second IS DISTINCT FROM kept_speed FROM backfill_status WHERE job = number) THEN
        RAISE INFO '%: counted %', title, figures(number);
    END IF;
    ROLLBACK;
END
$$;
-- With the NOTICE as an error, without the job's number.
CREATE PROCEDURE forget(number bigint, title text) LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO '%: forgotten %', title, backfill_forget(number);
    RAISE INFO '%: rows left %', title, (SELECT count(*) FROM backfill_status WHERE job = number)
        + (SELECT count(*) FROM backfill_control WHERE job = number) + (SELECT count(*) FROM backfill_write WHERE job = number);
EXCEPTION WHEN OTHERS THEN
    RAISE INFO '%: %', title, replace(SQLERRM, number::text, 'N');
END
$$;

SELECT backfill_start('t', 'SELECT k, v + 1 AS v FROM t', delay => '0') AS done \gset
SELECT backfill_wait(:done);
CALL check_figures(:done, 'done');
CALL forget(:done, 'tables kept');
SELECT backfill_purge(:done);
CALL forget(:done, 'purged');
CALL forget(:done, 'again');

-- What was kept may be dropped by hand.
SELECT backfill_start('t', 'SELECT k, v + 1 AS v FROM t', delay => '0', partitions => '{t_1}') AS by_hand \gset
SELECT backfill_wait(:by_hand);
DO $$
BEGIN
    EXECUTE format('DROP TABLE backfill_%s_old.t_1', (SELECT max(job) FROM backfill_status));
END
$$;
CALL forget(:by_hand, 'dropped by hand');

SELECT backfill_start('t', 'SELECT k, v / CASE k WHEN 15 THEN 0 ELSE 1 END AS v FROM t', delay => '0', max_attempts => 1, on_error => 'stop', keep_old => false) AS failed \gset
SELECT backfill_wait(:failed);
CALL check_figures(:failed, 'failed');
SELECT backfill_retry(:failed);
SELECT partitions IS NULL AS cleared FROM backfill_job WHERE job = :failed;
SELECT backfill_wait(:failed);
CALL check_figures(:failed, 'failed again');
SELECT backfill_cancel(:failed);
SELECT backfill_wait(:failed);
CALL check_figures(:failed, 'canceled');
CALL forget(:failed, 'canceled');

-- It keeps a table that a retry would swap.
SELECT backfill_start('t', 'SELECT k, v FROM t WHERE k = 35', delay => '0', partitions => '{t_4}', keep_old => false) AS shrunken \gset
SELECT backfill_wait(:shrunken);
CALL forget(:shrunken, 'built and failed');
SELECT backfill_cancel(:shrunken);
SELECT backfill_wait(:shrunken);
CALL forget(:shrunken, 'built and canceled');

SELECT backfill_start('t', 'SELECT k, v FROM t', throttle_query => 'SELECT true', keep_old => false) AS running \gset
CALL forget(:running, 'running');
SELECT backfill_pause(:running);
SELECT backfill_wait(:running);
CALL check_figures(:running, 'paused');
CALL forget(:running, 'paused');

-- A role that owns the table, and not the job.
CREATE ROLE backfill_ended_jobs_owner;
CREATE ROLE backfill_ended_jobs_other;
GRANT USAGE ON SCHEMA ended_jobs TO backfill_ended_jobs_owner, backfill_ended_jobs_other;
ALTER TABLE t OWNER TO backfill_ended_jobs_owner;
SELECT backfill_cancel(:running);
SELECT backfill_wait(:running);
GRANT EXECUTE ON PROCEDURE forget TO PUBLIC;
SET ROLE backfill_ended_jobs_owner;
CALL forget(:running, 'owner of the table');
SET ROLE backfill_ended_jobs_other;
CALL forget(:running, 'another role');
RESET ROLE;
CALL forget(:running, 'owner of the job');
SELECT backfill_forget(NULL) IS NULL AS nothing;

DROP SCHEMA ended_jobs CASCADE;
DROP ROLE backfill_ended_jobs_owner, backfill_ended_jobs_other;
