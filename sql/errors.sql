-- Errors at the door: each is raised before anything is written.
\set SHOW_CONTEXT never
CREATE SCHEMA errors;
SET search_path = errors, public;
SET client_min_messages = warning;

CREATE PROCEDURE try(statement text) LANGUAGE plpgsql AS $$
DECLARE
    code text;
    message text;
    detail text;
    hint text;
BEGIN
    BEGIN
        EXECUTE statement;
        RAISE INFO 'no error';
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                                hint = PG_EXCEPTION_HINT;
    END;
    RAISE INFO E'% %\n  detail: %\n  hint: %', code, message, detail, hint;
END
$$;

CREATE TABLE plain (k int, v text);
CREATE TABLE t (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE source AS SELECT 1 AS k, 'x'::text AS v;

-- targets
CALL try($$SELECT backfill_start('plain', 'source')$$);
CALL try($$SELECT backfill_start(0, 'source')$$);
CALL try($$SELECT backfill_start(NULL, 'source')$$);
CALL try($$SELECT backfill_start('t', NULL)$$);
CALL try($$SELECT backfill_start('t', 'source')$$); -- no partition yet
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);

-- ranges and lists of partitions
CALL try($$SELECT backfill_start('t', 'source', range_start => '20')$$);
CALL try($$SELECT backfill_start('t', 'source', range_start => '15', range_end => '5')$$);
CALL try($$SELECT backfill_start('t', 'source', range_start => 'abc')$$);
CALL try($$SELECT backfill_start('t', 'source', range_start => '1', partitions => '{t_1}')$$);
CALL try($$SELECT backfill_start('t', 'source', partitions => '{plain}')$$);
CALL try($$SELECT backfill_start('t', 'source', partitions => '{}')$$);
CREATE TABLE listed (k int, n int) PARTITION BY LIST (k);
CREATE TABLE listed_1 PARTITION OF listed FOR VALUES IN (1);
CALL try($$SELECT backfill_start('listed', 'SELECT 1 AS k', range_start => '1')$$);

-- options
CALL try($$SELECT backfill_start('t', 'source', workers => 0)$$);
CALL try($$SELECT backfill_start('t', 'source', workers => NULL)$$);
CALL try($$SELECT backfill_start('t', 'source', delay => '-1 second')$$);
CALL try($$SELECT backfill_start('t', 'source', max_attempts => 0)$$);
CALL try($$SELECT backfill_start('t', 'source', on_error => 'panic')$$);
CALL try($$SELECT backfill_start('t', 'source', on_write => 'panic')$$);
CALL try($$SELECT backfill_start('t', 'source', on_write => NULL)$$);
CALL try($$SELECT backfill_start('t', 'source', lock_timeout => '-1 ms')$$);
CALL try($$SELECT backfill_start('t', 'source', workers => 100)$$); -- more than the server has

-- sources
CALL try($$SELECT backfill_start('t', 'no_such_table')$$);
CALL try($$SELECT backfill_start('t', 'SELECT 1 AS k, FROM')$$);
CALL try($$SELECT backfill_start('t', 'SELECT 1 AS k, ''x''::text AS v; DELETE FROM t')$$);
CALL try($$SELECT backfill_start('t', 'SELECT 1) AS a, (SELECT 2')$$);
CALL try($$SELECT backfill_start('t', '')$$);
CALL try($$SELECT backfill_start('t', 'DELETE FROM source RETURNING k, v')$$);
CALL try($$SELECT backfill_start('t', 'WITH d AS (DELETE FROM source RETURNING k, v) SELECT * FROM d')$$);
CALL try($$SELECT backfill_start('t', 'SELECT k, v FROM source FOR UPDATE')$$);
CALL try($$SELECT backfill_start('t', 'SELECT k, v INTO other FROM source')$$);
CALL try($$SELECT backfill_start('t', 'SELECT k FROM source')$$);
CALL try($$SELECT backfill_start('t', 'SELECT k, v, 1 AS w FROM source')$$);
CALL try($$SELECT backfill_start('t', 'SELECT k, v, v FROM source')$$);
CALL try($$SELECT backfill_start('t', 'SELECT k::bigint, v FROM source')$$);
CALL try($$SELECT backfill_start('t', 'SELECT 0.6 AS k, v FROM source')$$);
CALL try($$SELECT backfill_start('listed', 'SELECT 1 AS k, ''x''::text AS n')$$);
CALL try($$SELECT backfill_start('listed', 'SELECT 1 AS k WHERE $1 IS NULL')$$);
CREATE SEQUENCE counter;
CALL try($$SELECT backfill_start('t', 'counter')$$);

-- where in the source it is wrong
SELECT backfill_start('t', 'SELECT k, nothing AS v FROM source');
SELECT backfill_start('t', 'SELECT k, v
FROM source AS s -- "größer": characters are counted, not bytes
WHERE ''größer'' <> v AND s.nothing IS NULL;');
SELECT backfill_start('t', 'SELECT 1 AS k, FROM source');
SELECT backfill_start('t', 'SELECT k, source.v FROM source AS s');
SELECT backfill_start('t', 'SELECT ''one''::int AS k, v FROM source');
SELECT backfill_start('t', 'SELECT k, v INTO other FROM source');
SELECT backfill_start('t', 'SELECT k, v, length(v) AS width FROM source');
SELECT backfill_start('t', 'SELECT k, v, upper(v) AS v FROM source');
SELECT backfill_start('t', 'SELECT v, k::bigint FROM source');
SELECT backfill_start('t', 'SELECT 1 AS k, ''x'' COLLATE nowhere AS v');
SELECT backfill_start('listed', 'SELECT k, v AS n FROM source');
SELECT * FROM backfill_plan('t', 'SELECT k, nothing AS v FROM source');
SELECT backfill_start('t', 'source', throttle_query => 'SELECT nothing FROM source');
SELECT backfill_start('t', 'source', throttle_query => 'WITH d AS (DELETE FROM source RETURNING k) SELECT k FROM d');
-- in a function that the source calls: there
CREATE FUNCTION broken(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN k + nothing; END $$;
SELECT backfill_start('t', 'SELECT broken(1) AS k, v FROM source');
-- and all that an error says by name
CREATE FUNCTION refusing(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'no', SCHEMA = 'a schema', TABLE = 'a table', COLUMN = 'a column',
        DATATYPE = 'a type', CONSTRAINT = 'a constraint';
END
$$;
DO $$
DECLARE
    schema text;
    "table" text;
    "column" text;
    datatype text;
    "constraint" text;
BEGIN
    PERFORM backfill_start('t', 'SELECT refusing(1) AS k, v FROM source');
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS schema = SCHEMA_NAME, "table" = TABLE_NAME, "column" = COLUMN_NAME,
                            datatype = PG_DATATYPE_NAME, "constraint" = CONSTRAINT_NAME;
    RAISE INFO '%, %, %, %, %', schema, "table", "column", datatype, "constraint";
END
$$;

-- two leaves of one name
CREATE SCHEMA errors2;
CREATE TABLE errors2.t_1 PARTITION OF t FOR VALUES FROM (20) TO (30);
CALL try($$SELECT backfill_start('t', 'source')$$);
DROP TABLE errors2.t_1;
-- two statistics objects, or two indexes, of one name
CREATE STATISTICS errors.same ON k, v FROM t_1;
CREATE STATISTICS errors2.same ON v, k FROM t_1;
CALL try($$SELECT backfill_start('t', 'source')$$);
DROP STATISTICS errors.same, errors2.same;
CREATE TABLE errors2.t_9 PARTITION OF t FOR VALUES FROM (20) TO (30);
CREATE INDEX same ON t_1 (v);
CREATE INDEX same ON errors2.t_9 (v);
CALL try($$SELECT backfill_start('t', 'source')$$);
DROP TABLE errors2.t_9;
DROP INDEX same;

-- one unfinished job on a partition
BEGIN;
SELECT backfill_start('t', 'source', range_end => '10') > 0 AS started;
SELECT set_config('errors.job', max(job)::text, false) IS NOT NULL FROM backfill_status;
DO $$
BEGIN
    PERFORM backfill_start('t', 'source');
EXCEPTION WHEN object_in_use THEN
    RAISE INFO '%', replace(SQLERRM, 'job ' || current_setting('errors.job'), 'job N');
END
$$;
-- waiting for it here could never end
DO $$
BEGIN
    PERFORM backfill_wait(current_setting('errors.job')::bigint);
EXCEPTION WHEN active_sql_transaction THEN
    RAISE INFO '%', replace(SQLERRM, 'job ' || current_setting('errors.job'), 'job N');
END
$$;
ROLLBACK;

-- what changes nothing cannot start anything
BEGIN READ ONLY;
SELECT backfill_start('t', 'source');
ROLLBACK;

-- jobs that do not exist
CALL try($$SELECT backfill_cancel(-1)$$);
CALL try($$SELECT backfill_wait(-1)$$);
CALL try($$SELECT backfill_wait(NULL)$$);
CALL try($$SELECT backfill_purge(-1)$$);

-- privileges
CREATE ROLE backfill_errors_owner LOGIN;
CREATE ROLE backfill_errors_group NOLOGIN;
CREATE ROLE backfill_errors_other LOGIN IN ROLE backfill_errors_group;
GRANT USAGE ON SCHEMA errors TO backfill_errors_owner, backfill_errors_group;
GRANT EXECUTE ON PROCEDURE try TO PUBLIC;
SET ROLE backfill_errors_other;
CALL try($$SELECT backfill_start('t', 'source')$$);
RESET ROLE;
ALTER TABLE t OWNER TO backfill_errors_group;
SET ROLE backfill_errors_other;
CALL try($$SELECT backfill_start('t', 'source')$$); -- not of the partition
RESET ROLE;
ALTER TABLE t_1 OWNER TO backfill_errors_group;
ALTER TABLE t_2 OWNER TO backfill_errors_group;
SET ROLE backfill_errors_other;
CALL try($$SELECT backfill_start('t', 'source')$$); -- no CREATE on the schema
RESET ROLE;
GRANT CREATE ON SCHEMA errors TO backfill_errors_group;
SET ROLE backfill_errors_other;
CALL try($$SELECT backfill_start('t', 'source')$$); -- may not read the source
RESET ROLE;
GRANT SELECT ON source TO backfill_errors_group;
SET ROLE backfill_errors_other;
BEGIN;
SELECT backfill_start('t', 'source') > 0 AS started;
ROLLBACK;
RESET ROLE;
-- another's job
SELECT backfill_start('t', 'source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SET ROLE backfill_errors_owner;
SELECT count(*) FROM backfill_status WHERE job = :job;
SELECT count(*) FROM backfill_progress WHERE job = :job;
SELECT set_config('errors.job', :'job', false) IS NOT NULL;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY ['cancel', 'wait', 'purge'] LOOP
        BEGIN
            EXECUTE format('SELECT backfill_%s(%s)', name, current_setting('errors.job'));
            RAISE INFO 'no error';
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE INFO '%: %', name, replace(SQLERRM, 'job ' || current_setting('errors.job'), 'job N');
        END;
    END LOOP;
END
$$;
SELECT count(*) FROM public.backfill_job;
SELECT count(*) FROM public.backfill_control;
SELECT count(*) FROM public.backfill_write;
RESET ROLE;
SELECT backfill_purge(:job);

-- nothing was written by any of the refused
SELECT count(*) FROM backfill_status WHERE target LIKE 'errors.%' AND job <> :job;
DROP SCHEMA errors, errors2 CASCADE;
DROP ROLE backfill_errors_owner, backfill_errors_other, backfill_errors_group;
