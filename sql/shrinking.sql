-- Rows that a partition would lose: by $1 and $2 where it has no such bound, or since the source gives too few.
CREATE SCHEMA shrinking;
SET search_path = shrinking, public;
SET client_min_messages = warning;
CREATE TABLE t (k int NOT NULL, v text) PARTITION BY RANGE (k);
CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (0);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (200) TO (MAXVALUE);
CREATE TABLE t_rest PARTITION OF t DEFAULT;
INSERT INTO t SELECT g, 'old' FROM generate_series(-50, 250) AS g;
CREATE TABLE raw AS SELECT k, 'new'::text AS v FROM t;
CREATE VIEW counts AS SELECT tableoid::regclass::text COLLATE "C" AS partition, v, count(*) FROM t GROUP BY 1, 2;

-- a condition on a bound that is NULL keeps every row away
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE k >= $1 AND k < $2', delay => '0');
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE k < $2', delay => '0');
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE k BETWEEN $1 AND $2 - 1', delay => '0');
SELECT backfill_start('t', 'SELECT k, max(v) AS v FROM raw WHERE k >= $1 GROUP BY k', delay => '0');
SELECT backfill_start('t', 'SELECT r.k, s.v FROM raw AS r LEFT JOIN (SELECT * FROM raw WHERE k >= $1) AS s USING (k)', delay => '0');
SELECT backfill_start('t', 'WITH r AS MATERIALIZED (SELECT k, v FROM raw WHERE abs($1) <= k) SELECT * FROM r', delay => '0');
-- also when it does so in a part of the query only
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE k >= $1 OR v = ''odd''', delay => '0');
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE v = ''new'' UNION ALL SELECT k, v FROM raw WHERE v = ''odd'' AND k < $2', delay => '0');
SELECT backfill_start('t', 'SELECT k, max(v) FILTER (WHERE k >= $1) AS v FROM raw GROUP BY k', delay => '0');
SELECT backfill_start('t', 'SELECT k, ''new'' AS v FROM generate_series($1, $2 - 1) AS k', delay => '0');
SELECT backfill_start('t', 'SELECT generate_series($1, $2 - 1) AS k, ''new'' AS v', delay => '0');
SELECT partition, action, hazards FROM backfill_plan('t', 'SELECT k, v FROM raw WHERE k >= $1 AND k < $2');

-- partitions that have both bounds are not concerned, nor is a query that says what NULL means
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE k >= $1 AND k < $2', partitions => '{t_1}', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT * FROM counts ORDER BY 1, 2;
SELECT backfill_start('t', 'SELECT k, v || ''er'' AS v FROM raw WHERE ($1 IS NULL OR k >= $1) AND ($2 IS NULL OR k < $2)', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT * FROM counts ORDER BY 1, 2;
BEGIN;
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE $1 IS NULL UNION ALL SELECT k, v FROM raw WHERE $1 IS NOT NULL AND k >= $1', delay => '0') > 0 AS taken;
ROLLBACK;
BEGIN;
SELECT backfill_start('t', 'SELECT k, v FROM raw WHERE int4range($1, $2) @> k AND k >= coalesce($1, k) AND (k < $2) IS NOT FALSE', delay => '0') > 0 AS taken;
ROLLBACK;

-- what neither the query nor its plan shows is noticed when it is built, and kept for the one who says that it is right
CREATE FUNCTION between_bounds(low int, high int) RETURNS SETOF raw LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT * FROM raw WHERE k >= low AND k < high; END $$;
CREATE PROCEDURE show(number bigint) LANGUAGE plpgsql AS $$
DECLARE
    line record;
BEGIN
    FOR line IN SELECT * FROM backfill_progress WHERE job = number ORDER BY ordinal LOOP
        RAISE INFO '% % attempts=% %: %', line.partition, line.state, line.attempts, line.sqlstate,
            regexp_replace(line.error, '\(\d+', '(<job>', 'g');
    END LOOP;
END
$$;
SELECT backfill_start('t', 'SELECT * FROM between_bounds($1, $2)', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL show(:job);
SELECT * FROM counts ORDER BY 1, 2;
SELECT backfill_retry(:job);
SELECT backfill_wait(:job, '60 s');
SELECT * FROM counts ORDER BY 1, 2;
SELECT backfill_alter(:job, allow_shrink => true);
SELECT backfill_retry(:job);
SELECT backfill_wait(:job, '60 s');
CALL show(:job);
SELECT * FROM counts ORDER BY 1, 2;

-- half of the rows are enough, one less is not; by either method, and while writers are held
TRUNCATE t;
INSERT INTO t SELECT g, 'old' FROM generate_series(0, 99) AS g;
CREATE PROCEDURE rebuild(source text, method text, on_write text) LANGUAGE plpgsql AS $$
DECLARE
    number bigint := backfill_start('t', source, partitions => '{t_1}', swap => method, on_write => on_write, delay => '0');
BEGIN
    COMMIT;
    PERFORM backfill_wait(number, '60 s');
    CALL show(number);
    IF (SELECT state FROM backfill_status WHERE job = number) = 'failed' THEN
        PERFORM backfill_cancel(number);
        COMMIT;
        PERFORM backfill_wait(number, '60 s');
    END IF;
    PERFORM backfill_purge(number);
END
$$;
CALL rebuild('SELECT k, ''half''::text AS v FROM t WHERE k % 2 = 0 OR k < 0', 'attach', 'rebuild');
SELECT * FROM counts ORDER BY 1, 2;
CALL rebuild('SELECT k, ''less''::text AS v FROM t WHERE k < 48', 'attach', 'rebuild');
CALL rebuild('SELECT k, ''less''::text AS v FROM t WHERE k < 40', 'storage', 'rebuild');
CALL rebuild('SELECT k, ''less''::text AS v FROM t WHERE k < 40', 'storage', 'block');
CALL rebuild('SELECT k, ''less''::text AS v FROM t WHERE k < 40', 'attach', 'block');
CALL rebuild('SELECT k, ''none''::text AS v FROM t WHERE k < 0', 'attach', 'ignore');
SELECT * FROM counts ORDER BY 1, 2;

-- an estimate that is out of date decides nothing
ANALYZE t_1;
INSERT INTO t SELECT g % 100, 'more' FROM generate_series(1, 3000) AS g;
CALL rebuild('SELECT k, ''few''::text AS v FROM t LIMIT 60', 'attach', 'rebuild');
SELECT * FROM counts ORDER BY 1, 2;
-- nor does one without statistics, for columns that are narrower than the planner thinks
CREATE TABLE wide (k int NOT NULL, c1 text, c2 text, c3 text, c4 text, c5 text, c6 text, c7 text, c8 text, c9 text, c10 text, c11 text, c12 text, c13 text, c14 text, c15 text, c16 text, c17 text, c18 text, c19 text, c20 text, c21 text, c22 text, c23 text, c24 text, c25 text, c26 text, c27 text, c28 text, c29 text, c30 text) PARTITION BY RANGE (k);
CREATE TABLE wide_1 PARTITION OF wide FOR VALUES FROM (0) TO (10000);
INSERT INTO wide (k) SELECT generate_series(0, 9999);
SELECT backfill_start('wide', 'SELECT * FROM wide WHERE k < 2000', max_attempts => 1, delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL show(:job);
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
-- more pages than are counted at one time, of which the first ones are empty; no further than it matters
CREATE TABLE large (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE large_1 PARTITION OF large FOR VALUES FROM (0) TO (100000) WITH (fillfactor = 10, autovacuum_enabled = false);
INSERT INTO large SELECT g, repeat('x', 700) FROM generate_series(0, 9999) AS g;
SELECT pg_relation_size('large_1') / current_setting('block_size')::int > 2 * 2048 AS pieces;
DELETE FROM large WHERE k < 5000;
SELECT backfill_start('large', 'SELECT k, v FROM large WHERE k < 7499', max_attempts => 1, delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL show(:job);
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
SELECT backfill_start('large', 'SELECT k, v FROM large WHERE k < 7500', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL show(:job);
TRUNCATE large;
INSERT INTO large SELECT g, 'x' FROM generate_series(0, 29999) AS g;
SELECT backfill_start('large', 'SELECT k, v FROM large WHERE k < 0', max_attempts => 1, delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL show(:job);
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job, '60 s');
-- an empty partition may stay empty
TRUNCATE t;
CALL rebuild('SELECT k, ''none''::text AS v FROM t', 'attach', 'rebuild');

SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%\_new';
SELECT count(backfill_purge(job)) > 0 AS purged FROM backfill_status WHERE target LIKE 'shrinking.%';
DROP SCHEMA shrinking CASCADE;
