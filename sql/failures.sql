-- Rows that cannot be: the partition fails with the row in its error, the others
-- are done, the live partition is untouched, and nothing of ours is left for it.
CREATE SCHEMA failures;
SET search_path = failures, public;
SET client_min_messages = warning;

CREATE TABLE t (k int NOT NULL, name varchar(5), n int CHECK (n >= 0), PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (20) TO (30);
ALTER TABLE t_2 ADD EXCLUDE USING btree (n WITH =);
INSERT INTO t SELECT g, 'old', g FROM generate_series(0, 29) AS g;

CREATE PROCEDURE run(source text, on_error text DEFAULT 'continue', attempts int DEFAULT 2) LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
    line record;
BEGIN
    number := backfill_start('t', source, delay => '0', max_attempts => attempts, on_error => run.on_error, allow_shrink => true);
    COMMIT;
    RAISE INFO 'job: %', backfill_wait(number, '60 s');
    FOR line IN SELECT p.partition, p.state, p.attempts, p.sqlstate, regexp_replace(p.error, '\nSQL statement.*', '') AS error
                FROM backfill_progress AS p WHERE p.job = number ORDER BY p.ordinal LOOP
        RAISE INFO '% % attempts=% %: %', line.partition, line.state, line.attempts, line.sqlstate, line.error;
    END LOOP;
    FOR line IN SELECT relnamespace::regnamespace AS schema, relname FROM pg_class
                WHERE relnamespace::regnamespace::text = format('backfill_%s_new', number) LOOP
        RAISE INFO 'left: %', line;
    END LOOP;
    FOR line IN SELECT conrelid::regclass AS relation, conname FROM pg_constraint
                WHERE connamespace = 'failures'::regnamespace AND conname LIKE 'partbackfill%' LOOP
        RAISE INFO 'left: %', line;
    END LOOP;
    PERFORM backfill_purge(number);
END
$$;

CALL run('SELECT k, name, CASE k WHEN 13 THEN -1 ELSE n END AS n FROM t');
CALL run('SELECT k, CASE k WHEN 13 THEN ''much too long'' ELSE name END AS name, n FROM t');
CALL run('SELECT k, CASE WHEN k = 13 THEN ''12345   '' ELSE ''x'' END AS name, n FROM t');
CALL run('SELECT CASE k WHEN 13 THEN 14 ELSE k END AS k, name, n FROM t');
CALL run('SELECT k, name, CASE k WHEN 13 THEN 14 ELSE n END AS n FROM t');
CALL run('SELECT k, name, n / (k - 13) AS n FROM t WHERE n / (k - 13) IS NOT NULL');
CALL run('SELECT k, name, n / (k - 13) AS n FROM t WHERE k < 13', 'continue', 1);
-- NOT NULL of a column that is not the key
ALTER TABLE t ALTER COLUMN name SET NOT NULL;
UPDATE t SET name = 'old', n = k;
CALL run('SELECT k, NULLIF(name, CASE k WHEN 13 THEN ''old'' END) AS name, n FROM t');
-- on_error => 'stop': what was not begun stays as it is
CALL run('SELECT k, name, n / (k - 13) AS n FROM t', 'stop', 1);
SELECT tableoid::regclass::text COLLATE "C" AS partition, count(*), count(DISTINCT name) FROM t GROUP BY 1 ORDER BY 1;

-- a failed job that left partitions pending is canceled before another begins
SELECT max(job) AS job FROM backfill_status WHERE state = 'failed' \gset
SELECT backfill_cancel(:job);
SELECT state, pending, failed FROM backfill_status WHERE job = :job;
SELECT backfill_wait(:job, '10 s');
SELECT backfill_cancel(:job);
CALL run('t');
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%';
DROP SCHEMA failures CASCADE;
