-- Labels: one unfinished job a label and owner; a repeated call finds it.
CREATE SCHEMA labels;
SET search_path = labels, public;

CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t SELECT g, g FROM generate_series(0, 19) AS g;
CREATE TABLE other (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
CREATE TABLE other_1 PARTITION OF other FOR VALUES FROM (0) TO (10);

-- What a call does, without the job's number.
CREATE FUNCTION start(wanted text, source text DEFAULT 'SELECT k, v + 1 AS v FROM t', target regclass DEFAULT 't', throttle text DEFAULT 'SELECT true')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT max(job) FROM backfill_status);
    found bigint;
    detail text;
    hint text;
BEGIN
    found := backfill_start(target, source, label => wanted, throttle_query => throttle, delay => '0', keep_old => false);
    RETURN CASE WHEN found > COALESCE(before, 0) THEN 'a new job' ELSE 'that job' END;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, NULLIF(detail, ''), NULLIF(hint, '')), '(job |[(])[0-9]+', '\1N', 'g');
END
$$;

SELECT start('');
SELECT start(repeat('x', 201));
SELECT start(E'two\nlines');

SET client_min_messages = warning;
SELECT start('it''s "1"');
SELECT start('it''s "1"');
SELECT start('it''s "1"', 'SELECT k, v + 2 AS v FROM t');
SELECT start('it''s "1"', 'SELECT k, v FROM t', 'other');
-- Without a label, or with another one, the partitions are in the way.
SELECT start(NULL);
SELECT start('another');

SELECT max(job) AS job FROM backfill_status \gset
SELECT label FROM backfill_status WHERE job = :job;
SELECT DISTINCT label FROM backfill_progress WHERE job = :job;
SELECT backfill_pause(:job);
SELECT backfill_wait(:job, '1 min');
SELECT start('it''s "1"');
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '1 min');
SELECT label FROM backfill_status WHERE job = :job;

-- A job that has ended, well or not, frees its label.
SELECT start('it''s "1"', 'SELECT k, v + 1 AS v FROM t', 't', NULL);
SELECT max(job) AS job FROM backfill_status \gset
SELECT backfill_wait(:job, '1 min');
SELECT start('it''s "1"', 'SELECT k, 1 / (v - v) AS v FROM t', 't', NULL);
SELECT max(job) AS failed FROM backfill_status \gset
SELECT backfill_wait(:failed, '1 min');
SELECT start('it''s "1"');

-- A retry would take it back.
SELECT set_config('labels.failed', :'failed', false) IS NOT NULL;
DO $$
BEGIN
    PERFORM backfill_retry(current_setting('labels.failed')::bigint);
EXCEPTION WHEN object_in_use THEN
    RAISE INFO '%', regexp_replace(SQLERRM, 'job [0-9]+', 'job N');
END
$$;
SELECT max(job) AS job FROM backfill_status \gset
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '1 min');
SELECT backfill_retry(:failed);
SELECT backfill_wait(:failed, '1 min');
SELECT backfill_cancel(:failed);
SELECT backfill_wait(:failed, '1 min');

-- Another role has labels of its own.
CREATE ROLE labels_other LOGIN;
GRANT ALL ON SCHEMA labels TO labels_other;
ALTER TABLE other OWNER TO labels_other;
ALTER TABLE other_1 OWNER TO labels_other;
SELECT start('mine');
SELECT max(job) AS job FROM backfill_status \gset
SET ROLE labels_other;
SELECT start('mine', 'SELECT k, v FROM other', 'other');
RESET ROLE;
SELECT count(*), count(DISTINCT owner) FROM backfill_status WHERE label = 'mine';
SELECT count(backfill_cancel(job)) FROM backfill_status WHERE label = 'mine';
SELECT backfill_wait(job, '1 min') FROM backfill_status WHERE label = 'mine';

DROP SCHEMA labels CASCADE;
DROP OWNED BY labels_other;
DROP ROLE labels_other;
