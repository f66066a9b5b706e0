-- backfill_diff and backfill_diff_rows: what counts as the same, by key and as multisets.
\set SHOW_CONTEXT never
CREATE SCHEMA diff;
SET search_path = diff, public;
\set VERBOSITY default
SET TimeZone = 'UTC';

-- A job whose partitions are all done.
CREATE FUNCTION run_job(target regclass, source text, swap text DEFAULT 'attach') RETURNS bigint LANGUAGE sql AS $$
    SELECT backfill_start(target, source, delay => '0', swap => run_job.swap)
$$;

-- The error of a statement, with any number of a job.
CREATE FUNCTION error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', sqlstate || ': ' || regexp_replace(message, 'job [1-9][0-9]*', 'job N'), NULLIF(detail, ''), NULLIF(hint, ''));
END
$$;

-- by the key: each kind of difference, and its count for each column
CREATE TABLE t (k int, id int, v text, amount numeric(8,2), "odd "" name" date, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1);
CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2);
INSERT INTO t SELECT k, id, 'row ' || id, id, CASE WHEN id > 5 THEN date '2024-01-01' + id END FROM generate_series(1, 2) AS k, generate_series(1, 10) AS id;
SELECT run_job('t', $$
    SELECT k, id, CASE WHEN id = 4 THEN NULL ELSE v END AS v, CASE WHEN id IN (4, 7) THEN amount + 1 ELSE amount END AS amount,
           COALESCE("odd "" name", CASE WHEN id = 5 THEN date '2024-12-31' END) AS "odd "" name"
    FROM t WHERE NOT (k = 1 AND id IN (1, 2))
    UNION ALL
    SELECT 1, id, 'new', 0, NULL FROM generate_series(101, 103) AS id
$$) AS job \gset
SELECT backfill_wait(:job);
SELECT * FROM backfill_diff(:job);
SELECT ordinal, changed FROM backfill_diff(:job, 't_2');
SELECT * FROM backfill_diff_rows(:job, 't_1');
SELECT * FROM backfill_diff_rows(:job, 't_1', 0);
SELECT count(*) FROM backfill_diff_rows(:job, 't_1', 3);
-- the kept table names its partition, too
SELECT partition FROM backfill_diff(:job, format('backfill_%s_old.t_1', :job)::regclass);
-- of the tables as they are now
UPDATE t SET v = 'changed since' WHERE k = 2 AND id = 1;
DELETE FROM t WHERE k = 2 AND id = 2;
SELECT partition, same, changed, only_old, only_new, changed_columns FROM backfill_diff(:job, 't_2');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT same FROM backfill_diff(:job, 't_2');
SET TRANSACTION READ ONLY;
SELECT kind, key FROM backfill_diff_rows(:job, 't_2', 100);
COMMIT;
-- no lock stays
BEGIN;
SELECT count(*) FROM backfill_diff(:job);
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('t_1'::regclass, 't_2'::regclass);
COMMIT;
-- columns are found by their names; one of another type is compared by its text, one of a single table is not compared
ALTER TABLE t DROP COLUMN amount, ADD COLUMN extra int DEFAULT 1;
ALTER TABLE t ALTER COLUMN "odd "" name" TYPE text;
SELECT partition, same, changed, changed_columns FROM backfill_diff(:job, 't_2');
SELECT * FROM backfill_diff_rows(:job, 't_2', 1);
-- what is not to be compared
SELECT backfill_purge(:job);
SELECT * FROM backfill_diff(:job);
SELECT error_of(format('SELECT * FROM backfill_diff(%s, %L)', :job, 't_1'));
SELECT error_of(format('SELECT * FROM backfill_diff_rows(%s, %L)', :job, 't_1'));

-- What a reader could tell apart. The key is equal by its type throughout.
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE DOMAIN short AS text COLLATE "C";
CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE kinds (
    id numeric PRIMARY KEY, n numeric, f float8, f4 float4, i interval, tz timestamptz, b boolean, c char(3), bp bpchar, vc varchar(9), nm name,
    ci text COLLATE ignoring_case, e mood, es mood[], p pair, ps pair[], d small, sh short, a int[], na numeric[], r int4range, nr numrange,
    j json, jb jsonb, x xml, pt point, ja json[], u uuid, by bytea, m money, ip inet, bt bit(3), long text, g text GENERATED ALWAYS AS (vc || '!') STORED
) PARTITION BY RANGE (id);
CREATE TABLE kinds_1 PARTITION OF kinds FOR VALUES FROM (0) TO (1000);
-- the same throughout, but that long values are stored in another way
ALTER TABLE kinds_1 ALTER long SET STORAGE EXTERNAL;
INSERT INTO kinds SELECT id, 1.5, 2.5, 3.5, '1 day', '2024-03-31 00:30+00', true, 'a', 'b ', 'c', 'name', 'Abc', 'glad', '{sad,glad}', ROW(1, 'y')::pair, ARRAY[ROW(1, 'y'), NULL]::pair[],
    7, 's', '{1,NULL}', '{1.0}', '[1,5)', '[1.0,2.0)', '{"a": 1}', '{"a": 1.0}', '<a/>', '(1,2)', ARRAY['{}']::json[],
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\x01', '1.00', '10.0.0.1/8', B'101', repeat('long', 5000)
FROM generate_series(0, 2) AS id;
INSERT INTO kinds (id) VALUES (3);
INSERT INTO kinds (id, p) VALUES (4, NULL), (5, (NULL, NULL));
INSERT INTO kinds (id, f, f4, j) VALUES (6, 0, 0, 'null');
ALTER TABLE kinds_1 ALTER long SET STORAGE EXTENDED;
SELECT run_job('kinds', 'kinds') AS job \gset
SELECT backfill_wait(:job);
SELECT * FROM backfill_diff(:job);
SELECT * FROM backfill_diff_rows(:job, 'kinds_1');
-- each of the values another, though many are equal by an operator
UPDATE kinds SET n = 1.50, f = 'NaN', f4 = '-0', i = '24 hours', tz = '2024-03-31 00:30:01+00', b = NULL, c = 'A', bp = 'b', vc = '', nm = 'Name',
    ci = 'aBC', e = 'sad', es = '{glad,sad}', p = ROW(1, NULL), ps = ARRAY[ROW(1, 'y')]::pair[], d = 8, sh = 'S', a = '[0:1]={1,NULL}', na = '{1.00}', r = 'empty',
    nr = '[1.00,2.0)', j = '{"a":1}', jb = '{"a": 1.00}', x = '<a></a>', pt = '(1,-0)', ja = ARRAY['{ }']::json[], u = NULL, by = '\x0100', m = '1.01',
    ip = '10.0.0.1', bt = B'111', long = repeat('long', 5000) || '.'
WHERE id = 1;
UPDATE kinds SET id = 2.0, f4 = 3.4999998 WHERE id = 2;
UPDATE kinds SET vc = '' WHERE id = 3;
UPDATE kinds SET p = (NULL, NULL) WHERE id = 4;
UPDATE kinds SET f = '-0', f4 = '-0', j = NULL WHERE id = 6;
SET extra_float_digits = -5;
SET DateStyle = 'German';
\set VERBOSITY terse
SELECT same, changed, only_old, only_new, jsonb_pretty(changed_columns) FROM backfill_diff(:job);
SELECT d.key, c.name, c.old, d.new -> c.name AS new
FROM backfill_diff_rows(:job, 'kinds_1') AS d CROSS JOIN LATERAL jsonb_each(d.old) AS c (name, old)
WHERE c.name <> 'long'
ORDER BY d.key ->> 'id', c.name COLLATE "C";
RESET DateStyle;
RESET extra_float_digits;
\set VERBOSITY default

-- without a key: multisets, of rows with values of any types
CREATE TABLE bag (k int, v text, n numeric, j json) PARTITION BY LIST (k);
CREATE TABLE bag_1 PARTITION OF bag FOR VALUES IN (1);
CREATE TABLE bag_2 PARTITION OF bag FOR VALUES IN (2);
INSERT INTO bag VALUES (1, 'once', 1.0, '{}'), (1, 'twice', NULL, '{"a":1}'), (1, 'twice', NULL, '{"a":1}'), (1, 'scale', 1.0, NULL),
    (1, NULL, NULL, NULL), (1, NULL, NULL, NULL), (1, '', NULL, NULL);
SELECT run_job('bag', $$
    SELECT k, v, CASE v WHEN 'scale' THEN 1.00 ELSE n END AS n, j FROM (SELECT *, row_number() OVER (PARTITION BY v) AS nr FROM bag) AS b WHERE nr = 1
    UNION ALL SELECT 1, 'new', NULL, '{"a": 1}' FROM generate_series(1, 3)
$$, 'storage') AS job \gset
SELECT backfill_wait(:job);
SELECT * FROM backfill_diff(:job);
SELECT * FROM backfill_diff_rows(:job, 'bag_1');
SELECT count(*) FROM backfill_diff_rows(:job, 'bag_1', 4);
SELECT * FROM backfill_diff_rows(:job, 'bag_2');

-- by storage, with dropped columns before and between those that are there, rows that are older than a column, and a generated key
CREATE TABLE worn (gone int, k int, v text, also_gone text, w int) PARTITION BY LIST (k);
CREATE TABLE worn_1 PARTITION OF worn FOR VALUES IN (1);
INSERT INTO worn SELECT id, 1, 'v', 'x', id FROM generate_series(1, 5) AS id;
ALTER TABLE worn DROP COLUMN gone, DROP COLUMN also_gone, ADD COLUMN later int NOT NULL DEFAULT 7;
ALTER TABLE worn_1 ADD UNIQUE (w), ALTER w SET NOT NULL;
SELECT run_job('worn', 'SELECT k, v, w, CASE w WHEN 3 THEN 8 ELSE later END AS later FROM worn WHERE w < 5', 'storage') AS job \gset
SELECT backfill_wait(:job);
SELECT * FROM backfill_diff(:job);
SELECT * FROM backfill_diff_rows(:job, 'worn_1');
-- a key that one table has lost, or columns that none has in common with the other
ALTER TABLE worn_1 DROP CONSTRAINT worn_1_w_key;
SELECT old_rows, new_rows, same, changed, only_old, only_new, changed_columns FROM backfill_diff(:job);
SELECT format('ALTER TABLE backfill_%s_old.worn_1 DROP k, DROP v, DROP w, DROP later', :job) AS drop_columns \gset
:drop_columns;
SELECT old_rows, new_rows, same, changed, only_old, only_new FROM backfill_diff(:job);
SELECT * FROM backfill_diff_rows(:job, 'worn_1');

-- empty tables
CREATE TABLE empty (k int PRIMARY KEY) PARTITION BY LIST (k);
CREATE TABLE empty_1 PARTITION OF empty FOR VALUES IN (1);
SELECT run_job('empty', 'empty') AS job \gset
SELECT backfill_wait(:job);
SELECT * FROM backfill_diff(:job);
SELECT * FROM backfill_diff_rows(:job, 'empty_1');

-- errors
\pset format unaligned
\pset tuples_only on
SELECT error_of('SELECT * FROM backfill_diff(0)');
SELECT error_of('SELECT * FROM backfill_diff(NULL)');
SELECT error_of('SELECT * FROM backfill_diff_rows(0, $$empty_1$$)');
SELECT error_of(format('SELECT * FROM backfill_diff(%s, %L)', :job, 'bag_1'));
SELECT error_of(format('SELECT * FROM backfill_diff(%s, %L)', :job, 'empty'));
SELECT error_of(format('SELECT * FROM backfill_diff(%s, %L)', :job, 0));
SELECT error_of(format('SELECT * FROM backfill_diff_rows(%s, %L)', :job, 'pg_class'));
SELECT error_of(format('SELECT * FROM backfill_diff_rows(%s, %L)', :job, NULL));
SELECT error_of(format('SELECT * FROM backfill_diff_rows(%s, %L, NULL)', :job, 'empty_1'));
SELECT error_of(format('SELECT * FROM backfill_diff_rows(%s, %L, -1)', :job, 'empty_1'));
SELECT backfill_start('empty', 'SELECT 1 AS k FROM generate_series(1, 2)', delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job);
SELECT * FROM backfill_diff(:job);
SELECT error_of(format('SELECT * FROM backfill_diff(%s, %L)', :job, 'empty_1'));
\pset format aligned
\pset tuples_only off

-- namesakes of operators and functions are not meant
SELECT run_job('t', 'SELECT k, id + 1 AS id, v, "odd "" name", extra FROM t') AS job \gset
SELECT backfill_wait(:job);
CREATE FUNCTION wrong(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = wrong);
CREATE FUNCTION count(boolean) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
SET search_path = diff, pg_catalog, public;
SELECT same, changed, only_old, only_new FROM backfill_diff(:job);

\set VERBOSITY terse
SET client_min_messages = warning;
RESET search_path;
SELECT sum(backfill_purge(job)) FROM backfill_status WHERE target LIKE 'diff.%';
DROP SCHEMA diff CASCADE;
