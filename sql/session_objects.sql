-- What works in the caller's session, and would not, or not in the same way, in a worker's.
CREATE SCHEMA session_objects;
SET search_path = session_objects, public;
SET client_min_messages = warning;
CREATE TYPE mood AS ENUM ('ok', 'bad');
CREATE TABLE t (k int NOT NULL, v text, j jsonb, m mood, a text[], c varchar(3)) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t SELECT g, 'old' FROM generate_series(0, 19) AS g;
CREATE VIEW rest AS SELECT NULL::jsonb AS j, NULL::mood AS m, NULL::text[] AS a, NULL::varchar(3) AS c;

-- temporary objects: the worker would read a namesake, or nothing
CREATE TABLE raw AS SELECT k, 'not corrected'::text AS v FROM t;
CREATE TEMP TABLE raw AS SELECT k, 'corrected'::text AS v FROM t;
CREATE TEMP VIEW seen AS SELECT * FROM session_objects.raw;
CREATE VIEW seen_by AS SELECT * FROM pg_temp.seen;
CREATE FUNCTION pg_temp.twice(text) RETURNS text LANGUAGE sql AS 'SELECT $1 || $1';
CREATE FUNCTION pg_temp.both() RETURNS SETOF int LANGUAGE sql AS 'SELECT generate_series(0, 19)';
CREATE FUNCTION pg_temp.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2';
CREATE OPERATOR pg_temp.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.same);
CREATE TYPE pg_temp.kind AS ENUM ('a');
CREATE DOMAIN pg_temp.short AS text;
CREATE AGGREGATE pg_temp.total(int) (SFUNC = int4pl, STYPE = int);
SELECT backfill_start('t', 'SELECT * FROM raw, rest');
SELECT backfill_start('t', 'SELECT * FROM pg_temp.seen, rest');
SELECT backfill_start('t', 'SELECT * FROM seen_by, rest');
SELECT backfill_start('t', 'SELECT k, pg_temp.twice(v) AS v, j, m, a, c FROM t');
SELECT backfill_start('t', 'SELECT k, ''v''::text AS v, r.* FROM pg_temp.both() AS k, rest AS r');
SELECT backfill_start('t', 'SELECT * FROM t WHERE v OPERATOR(pg_temp.===) ''old''');
SELECT backfill_start('t', 'SELECT k, (''a''::pg_temp.kind)::text AS v, j, m, a, c FROM t');
SELECT backfill_start('t', 'SELECT k, v::pg_temp.short::text AS v, j, m, a, c FROM t');
SELECT backfill_start('t', 'SELECT k, v, j, m, a, c FROM t WHERE ''{}''::pg_temp.kind[] IS NOT NULL');
SELECT backfill_start('t', 'SELECT t.* FROM t WHERE EXISTS (SELECT pg_temp.total(k) FROM session_objects.raw)');
SELECT backfill_start('t', 'WITH r AS (SELECT * FROM raw) SELECT r.*, rest.* FROM r, rest');
SELECT backfill_start('t', 't', throttle_query => 'SELECT false FROM raw');
SELECT backfill_plan('t', 'SELECT * FROM raw, rest');
CREATE OPERATOR pg_temp.#=# (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);
SELECT backfill_start('t', 'SELECT * FROM t WHERE v OPERATOR(pg_temp.#=#) ''old''');
-- what a function reads is not known before it runs: the names in its text are
CREATE FUNCTION corrected() RETURNS TABLE (k int, v text) LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT r.k, r.v FROM Raw AS r; END $$;
CREATE FUNCTION not_raws() RETURNS SETOF int LANGUAGE sql AS 'SELECT raw_.k FROM (SELECT 1 AS k) AS raw_';
CREATE VIEW by_function AS SELECT * FROM corrected();
SELECT backfill_start('t', 'SELECT * FROM corrected(), rest');
SELECT backfill_start('t', 'SELECT * FROM by_function, rest');
SELECT backfill_start('t', 't', throttle_query => 'SELECT count(*) > 100 FROM corrected()');
BEGIN;
SELECT backfill_start('t', 'SELECT n.k, ''v'' AS v, rest.* FROM not_raws() AS n (k), rest') > 0 AS taken;
ROLLBACK;
SELECT count(*) FROM backfill_status WHERE target = 'session_objects.t';
DISCARD TEMP;
BEGIN;
SELECT backfill_start('t', 'SELECT * FROM corrected(), rest') > 0 AS taken;
ROLLBACK;

-- literals without a type take that of their column, as INSERT ... SELECT has them
SELECT backfill_start('t', 'SELECT k, ''new'' AS v, ''{"a": 1}'' AS j, ''ok'' AS m, ''{x,y}'' AS a, ''abc'' AS c FROM t', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT DISTINCT v, j, m, a, c FROM t;
SELECT backfill_start('t', 'SELECT k, NULL AS v, NULL AS j, NULL AS m, NULL AS a, NULL AS c FROM t;', swap => 'storage', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT DISTINCT v, j, m, a, c FROM t;
-- and what is no value of it, or too long, is an error there as well
SELECT backfill_start('t', 'SELECT k, v, j, ''good'' AS m, a, c FROM t', delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT DISTINCT split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE job = :job;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
SELECT backfill_start('t', 'SELECT k, v, j, m, a, ''abcd'' AS c FROM t', delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT DISTINCT split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE job = :job;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
-- types of which a name without a length means length 1; a key; and what INSERT refuses
CREATE TABLE lengths (k int, c char(3)[], b bit(3), one bit(1), h "char", n numeric(4, 1), at timestamp(0)) PARTITION BY RANGE (k);
CREATE TABLE lengths_1 PARTITION OF lengths FOR VALUES FROM (0) TO (10);
CREATE TABLE inserted (LIKE lengths);
INSERT INTO inserted SELECT '5' AS k, '{abc,d}' AS c, '101' AS b, '1' AS one, 'x' AS h, '12.34' AS n, '2024-01-01 00:00:00.6' AS at;
SELECT backfill_start('lengths', $$SELECT '5' AS k, '{abc,d}' AS c, '101' AS b, '1' AS one, 'x' AS h, '12.34' AS n, '2024-01-01 00:00:00.6' AS at$$,
                      delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT * FROM lengths EXCEPT ALL SELECT * FROM inserted;
SELECT count(*) FROM lengths;
INSERT INTO inserted (one) SELECT '101';
SELECT backfill_start('lengths', $$SELECT '5' AS k, NULL AS c, NULL AS b, '101' AS one, NULL AS h, NULL AS n, NULL AS at$$,
                      delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE job = :job;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
-- a key that is text by more than a missing type has to have its type
SELECT backfill_start('t', 'SELECT ''5''::text AS k, v, j, m, a, c FROM t');

-- triggers that would change a row on its way
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'filled'; RETURN NEW; END $$;
CREATE TRIGGER fill BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fill();
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON t_2 FOR EACH ROW EXECUTE FUNCTION fill();
SELECT partition, action, hazards FROM backfill_plan('t', 't');
SELECT partition, action, hazards FROM backfill_plan('t', 'SELECT * FROM t');
SELECT backfill_start('t', 'SELECT * FROM t', delay => '0');
SELECT backfill_start('t', 'SELECT k, ''by hand'' AS v, j, m, a, c FROM t', delay => '0', skip_triggers => true) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT DISTINCT v FROM t;
SELECT backfill_start('t', 't', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
-- also one that comes after the start
ALTER TABLE t DISABLE TRIGGER fill;
BEGIN;
SELECT backfill_start('t', 'SELECT * FROM t', delay => '0', max_attempts => 1) AS job \gset
ALTER TABLE t ENABLE TRIGGER fill;
COMMIT;
SELECT backfill_wait(:job, '60 s');
SELECT partition, state, split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE job = :job ORDER BY ordinal;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
ALTER TABLE t DISABLE TRIGGER fill;
SELECT backfill_start('t', 'SELECT * FROM t', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
DROP TRIGGER fill ON t;

-- every partition that is refused is named
CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (20) TO (30);
CREATE TABLE referring (k int);
CREATE RULE r AS ON DELETE TO t_1 DO ALSO NOTHING;
CREATE RULE r AS ON DELETE TO t_3 DO ALSO NOTHING;
SELECT backfill_start('t', 't', swap => 'attach');
DROP RULE r ON t_3;
SELECT backfill_start('t', 't', swap => 'attach');
SELECT backfill_start('t', 't', partitions => '{t_1}', swap => 'attach');

SELECT count(backfill_purge(job)) > 0 AS purged FROM backfill_status WHERE target LIKE 'session_objects.%';
DROP SCHEMA session_objects CASCADE;
