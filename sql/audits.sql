-- audits: queries that must give no row before a swap. What is refused at the door, and what an error says.
\set SHOW_CONTEXT never
CREATE SCHEMA audits;
SET search_path = audits, public;
SET client_min_messages = warning;

CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE "t ""2" PARTITION OF t FOR VALUES FROM (10) TO (MAXVALUE);
INSERT INTO t SELECT k, 'old' FROM generate_series(1, 19) AS k;
CREATE TABLE source AS SELECT k, v || ' ' || k AS v FROM t;
CREATE TABLE log (n int);
CREATE FUNCTION write_log() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audits.log VALUES (1); RETURN false; END $$;

-- The function ends with the first audit that fails.
CREATE FUNCTION try(VARIADIC audits text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    job bigint;
    state text;
    detail text;
    hint text;
BEGIN
    job := backfill_start('t', 'source', audits => audits, throttle_query => 'SELECT true');
    PERFORM backfill_cancel(job);
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, NULLIF(detail, ''), NULLIF(hint, ''));
END
$$;

-- not one query that only reads
SELECT backfill_start('t', 'source', audits => NULL);
SELECT try('SELECT FROM {shadow} LIMIT 0', NULL);
SELECT try('');
SELECT try('-- nothing');
SELECT try('SELECT 1; SELECT 2');
SELECT try('SELECT 1', 'SELECT 1) AS a; DELETE FROM t; SELECT * FROM (SELECT 1');
SELECT try('DELETE FROM {shadow} RETURNING k');
SELECT try('WITH d AS (DELETE FROM {shadow} RETURNING k) SELECT k FROM d');
SELECT try('SELECT k INTO other FROM {shadow}');
SELECT try('SELECT k FROM {live} FOR UPDATE');
SELECT try('VALUES (1)', 'CALL try()');
SELECT backfill_start('t', 'source', audits => ARRAY[repeat('x', 1048577)]);
CREATE TEMP TABLE temporary (k int);
SELECT try('SELECT k FROM temporary');

-- with the real columns
SELECT try('SELECT k FROM {shadow} WHERE v IS NULL', 'SELECT w FROM {shadow}');
SELECT try('SELECT k FROM {nothing}');
SELECT try('SELECT $1');
SELECT try('SELECT k FROM {shadow} WHERE k < ''a''');
SELECT backfill_start('t', 'source', audits => ARRAY['SELECT 1', 'SELECT k
FROM {shadow}
WHERE nothing IS NULL']);
SELECT backfill_start('t', 'source', audits => ARRAY['SELECT 1, FROM']);

-- what is accepted
SELECT try(VARIADIC '{}');
SELECT try(VARIADIC '{{SELECT 1, SELECT 2}, {TABLE t, VALUES (1)}}');
SELECT try('TABLE {shadow};', 'SELECT FROM {shadow} -- a comment', 'SELECT 1 AS a, 2 AS a', 'WITH x AS (SELECT 1) TABLE x');
SELECT try('SELECT {shadow}.k FROM {live} FULL JOIN {shadow} ON {shadow}.k = {live}.k WHERE {live}.k IS NULL');
SELECT try('SELECT k FROM {shadow} WHERE k < {range_start} OR k >= {range_end}', 'SELECT ''{"a": {"b": 1}}''::jsonb, ''{1,2}''::int[]');
SELECT try('SELECT k FROM {shadow} AS audit', 'SELECT write_log()');

-- by a role that may not read what the audit reads
CREATE ROLE backfill_auditor LOGIN;
CREATE TABLE secret (k int);
GRANT USAGE, CREATE ON SCHEMA audits TO backfill_auditor;
GRANT SELECT ON source TO backfill_auditor;
ALTER TABLE t OWNER TO backfill_auditor;
ALTER TABLE t_1 OWNER TO backfill_auditor;
ALTER TABLE "t ""2" OWNER TO backfill_auditor;
SET SESSION AUTHORIZATION backfill_auditor;
SELECT backfill_start('t', 'source', audits => ARRAY['SELECT 1', 'SELECT k FROM secret']);
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM backfill_status WHERE target = 'audits.t' AND state <> 'canceled';

-- All pass.
SELECT backfill_start('t', 'source', delay => '0', keep_old => false, audits => ARRAY[
    'SELECT k FROM {shadow} WHERE v IS NULL OR k < {range_start} OR k >= {range_end}',
    'SELECT k FROM {live} WHERE NOT EXISTS (SELECT FROM {shadow} AS s WHERE s.k = {live}.k)',
    'SELECT 1 WHERE {range_start} IS NULL',
    'SELECT count(*) FROM {shadow} HAVING count(*) NOT IN (9, 10)']) AS job \gset
SELECT backfill_wait(:job, '1 min');
SELECT ordinal, state, attempts FROM backfill_progress WHERE job = :job ORDER BY 1;
SELECT min(v), max(v) FROM t;

-- The second does not for one partition.
UPDATE source SET v = NULL WHERE k IN (12, 14);
SELECT backfill_start('t', 'source', delay => '0', keep_old => false, audits => ARRAY[
    'SELECT k FROM {shadow} EXCEPT SELECT k FROM {live}',
    'SELECT k, v, repeat(''é'', 300) AS long FROM {shadow} WHERE v IS NULL ORDER BY k', 'SELECT 1 WHERE {range_end} IS NULL']) AS job \gset
SELECT backfill_wait(:job, '1 min');
SELECT ordinal, state, attempts, sqlstate, replace(error, :job::text, 'N') AS error FROM backfill_progress WHERE job = :job ORDER BY 1;
SELECT replace(error, :job::text, 'N') AS error FROM backfill_status WHERE job = :job;
-- What was built can be looked at; no other job is kept from the partition.
SELECT format('backfill_%s_new', :job) AS schema \gset
SELECT k, v FROM :"schema"."t ""2" WHERE v IS NULL ORDER BY k;
SELECT min(v), max(v) FROM t WHERE k >= 10;
SELECT backfill_start('t', 'source', partitions => '{"\"t \"\"2\""}', delay => '0', keep_old => false) AS other \gset
SELECT backfill_wait(:other, '1 min');
SELECT backfill_forget(:job);

-- The retry builds it anew.
UPDATE source SET v = 'mended' WHERE v IS NULL;
SELECT backfill_retry(:job);
SELECT backfill_wait(:job, '1 min');
SELECT ordinal, state, attempts, error FROM backfill_progress WHERE job = :job ORDER BY 1;
SELECT k, v FROM t WHERE v = 'mended' ORDER BY k;
SELECT backfill_forget(:job);

-- A row without columns, and one of many.
SELECT backfill_start('t', 'source', delay => '0', keep_old => false, partitions => '{t_1}', audits => ARRAY['SELECT']) AS job \gset
SELECT backfill_wait(:job, '1 min');
SELECT replace(error, :job::text, 'N') AS error FROM backfill_progress WHERE job = :job;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '1 min');
SELECT string_agg(format('repeat(''x'', 201) AS c%s', n), ', ') AS columns FROM generate_series(1, 30) AS n \gset
SELECT backfill_start('t', 'source', delay => '0', keep_old => false, partitions => '{t_1}', audits => ARRAY['SELECT ' || :'columns']) AS job \gset
SELECT backfill_wait(:job, '1 min');
SELECT length(error) BETWEEN 4000 AND 4500 AS is_cut, substring(error FROM '.{20}\.\.\.\)\.') AS end FROM backfill_progress WHERE job = :job;

-- An audit that writes does so when it runs: an error, in as many attempts as any.
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '1 min');
SELECT backfill_start('t', 'source', delay => '0', keep_old => false, partitions => '{t_1}', max_attempts => 1, audits => ARRAY['SELECT write_log()']) AS job \gset
SELECT backfill_wait(:job, '1 min');
SELECT state, attempts, sqlstate, split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE job = :job;
SELECT count(*) FROM log;

-- Each job has dropped what it kept.
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%';

DROP SCHEMA audits CASCADE;
DROP ROLE backfill_auditor;
