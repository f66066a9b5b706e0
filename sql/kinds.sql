-- Every kind of partitioning. Each table is rebuilt from a source that holds
-- other rows, and must afterwards hold exactly those, each where it belongs.
CREATE SCHEMA kinds;
SET search_path = kinds, public;
SET client_min_messages = warning;

CREATE PROCEDURE compare(target text) LANGUAGE plpgsql AS $$
DECLARE
    missing bigint;
    extra bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (TABLE %1$s_source EXCEPT ALL TABLE %1$s) AS m', target) INTO missing;
    EXECUTE format('SELECT count(*) FROM (TABLE %1$s EXCEPT ALL TABLE %1$s_source) AS m', target) INTO extra;
    IF missing + extra > 0 THEN
        RAISE EXCEPTION '% rows are missing, % are too many', missing, extra;
    END IF;
END
$$;

-- RANGE on one column, unbounded at both ends
CREATE TABLE by_range (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE by_range_1 PARTITION OF by_range FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE by_range_2 PARTITION OF by_range FOR VALUES FROM (10) TO (20);
CREATE TABLE by_range_3 PARTITION OF by_range FOR VALUES FROM (20) TO (MAXVALUE);
INSERT INTO by_range SELECT g, 'old' FROM generate_series(1, 30) AS g;
CREATE TABLE by_range_source AS SELECT g AS k, 'new ' || g AS v FROM generate_series(5, 60, 2) AS g;
SELECT backfill_start('by_range', 'by_range_source', delay => '0', allow_shrink => true) AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_range');

-- the same from a query with the partition's bounds, which are NULL when unbounded
DELETE FROM by_range;
SELECT backfill_start('by_range', 'SELECT k, v FROM by_range_source WHERE ($1 IS NULL OR k >= $1) AND ($2 IS NULL OR k < $2)', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_range');
SELECT ordinal, partition, range_start, range_end, rows FROM backfill_progress WHERE job = :job;

-- LIST, with NULL and a DEFAULT
CREATE TABLE by_list (k text, v int) PARTITION BY LIST (k);
CREATE TABLE by_list_ab PARTITION OF by_list FOR VALUES IN ('a', 'b');
CREATE TABLE by_list_null PARTITION OF by_list FOR VALUES IN (NULL);
CREATE TABLE by_list_rest PARTITION OF by_list DEFAULT;
INSERT INTO by_list VALUES ('a', 1), ('b', 2), (NULL, 3), ('z', 4);
CREATE TABLE by_list_source AS SELECT chr(ascii('a') + g) AS k, g AS v FROM generate_series(0, 25) AS g;
INSERT INTO by_list_source VALUES (NULL, 100), (NULL, 101);
SELECT backfill_start('by_list', 'by_list_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_list');
SELECT tableoid::regclass::text COLLATE "C" AS partition, count(*) FROM by_list GROUP BY 1 ORDER BY 1;

-- HASH on two columns, one of them of a collatable type
CREATE TABLE by_hash (k int, t text, v int) PARTITION BY HASH (k, t);
CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE by_hash_2 PARTITION OF by_hash FOR VALUES WITH (MODULUS 3, REMAINDER 2);
CREATE TABLE by_hash_source AS SELECT g AS k, md5(g::text) AS t, g * 2 AS v FROM generate_series(1, 300) AS g;
SELECT backfill_start('by_hash', 'by_hash_source', delay => '0', workers => 2) AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_hash');

-- RANGE on several columns
CREATE TABLE by_columns (a int, b text, v int) PARTITION BY RANGE (a, b);
CREATE TABLE by_columns_1 PARTITION OF by_columns FOR VALUES FROM (1, MINVALUE) TO (1, 'm');
CREATE TABLE by_columns_2 PARTITION OF by_columns FOR VALUES FROM (1, 'm') TO (2, 'c');
CREATE TABLE by_columns_3 PARTITION OF by_columns FOR VALUES FROM (2, 'c') TO (MAXVALUE, MAXVALUE);
CREATE TABLE by_columns_source AS
    SELECT a, chr(ascii('a') + b) AS b, a * b AS v FROM generate_series(1, 4) AS a, generate_series(0, 25) AS b;
SELECT backfill_start('by_columns', 'by_columns_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_columns');

-- an expression
CREATE TABLE by_expression (day date, v int) PARTITION BY LIST (EXTRACT(month FROM day));
CREATE TABLE by_expression_1 PARTITION OF by_expression FOR VALUES IN (1, 2, 3);
CREATE TABLE by_expression_2 PARTITION OF by_expression FOR VALUES IN (4, 5, 6, 7, 8, 9, 10, 11, 12);
CREATE TABLE by_expression_source AS SELECT '2024-01-01'::date + g AS day, g AS v FROM generate_series(0, 365) AS g;
SELECT backfill_start('by_expression', 'by_expression_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_expression');
SELECT tableoid::regclass::text COLLATE "C" AS partition, count(*) FROM by_expression GROUP BY 1 ORDER BY 1;

-- the whole row
CREATE TABLE by_row (a int, b int) PARTITION BY LIST ((by_row));
CREATE TABLE by_row_1 PARTITION OF by_row FOR VALUES IN ('(1,2)'::by_row);
CREATE TABLE by_row_2 (gone int, b int, a int);
ALTER TABLE by_row_2 DROP gone;
ALTER TABLE by_row ATTACH PARTITION by_row_2 FOR VALUES IN ('(2,4)'::by_row);
INSERT INTO by_row VALUES (1, 2), (2, 4);
CREATE TABLE by_row_source AS TABLE by_row;
SELECT backfill_start('by_row', 'by_row', delay => '0', keep_old => false) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT backfill_start('by_row', 'by_row', delay => '0', swap => 'storage', keep_old => false) AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_row');
SELECT tableoid::regclass::text COLLATE "C" AS partition, * FROM by_row ORDER BY 1;

-- sub-partitions, of another kind than their parent, with other column orders
CREATE TABLE by_tree (day date, region text, v int) PARTITION BY RANGE (day);
CREATE TABLE by_tree_1 PARTITION OF by_tree FOR VALUES FROM ('2024-01-01') TO ('2024-07-01') PARTITION BY LIST (region);
CREATE TABLE by_tree_1_eu PARTITION OF by_tree_1 FOR VALUES IN ('eu');
CREATE TABLE by_tree_1_rest (dropped int, v int, region text, day date);
ALTER TABLE by_tree_1_rest DROP COLUMN dropped;
ALTER TABLE by_tree_1 ATTACH PARTITION by_tree_1_rest DEFAULT;
CREATE TABLE by_tree_2 PARTITION OF by_tree FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
CREATE TABLE by_tree_source AS
    SELECT '2024-01-01'::date + g AS day, (ARRAY ['eu', 'us', 'ap'])[g % 3 + 1] AS region, g AS v
    FROM generate_series(0, 365) AS g;
SELECT backfill_start('by_tree', 'by_tree_source', delay => '0', workers => 2) AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_tree');
SELECT tableoid::regclass::text COLLATE "C" AS partition, count(*) FROM by_tree GROUP BY 1 ORDER BY 1;
-- ... and a sub-tree as the target
UPDATE by_tree_source SET v = -v WHERE day < '2024-07-01';
SELECT backfill_start('by_tree_1', 'by_tree_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_tree');

-- a lone DEFAULT takes everything
CREATE TABLE by_default (k int) PARTITION BY RANGE (k);
CREATE TABLE by_default_all PARTITION OF by_default DEFAULT;
CREATE TABLE by_default_source AS SELECT g AS k FROM generate_series(1, 10) AS g;
INSERT INTO by_default_source VALUES (NULL);
SELECT backfill_start('by_default', 'by_default_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
CALL compare('by_default');

-- a range: whole partitions that intersect it, never DEFAULT
CREATE TABLE by_month (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE by_month_1 PARTITION OF by_month FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE by_month_2 PARTITION OF by_month FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE by_month_3 PARTITION OF by_month FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
CREATE TABLE by_month_rest PARTITION OF by_month DEFAULT;
SELECT ordinal, partition, action FROM backfill_plan('by_month', range_start => '2024-01-31', range_end => '2024-02-02');
SELECT ordinal, partition, action FROM backfill_plan('by_month', range_start => '2024-02-01', range_end => '2024-03-01');
SELECT ordinal, partition, action FROM backfill_plan('by_month', range_end => '2024-03-01', newest_first => true);
SELECT ordinal, partition, action FROM backfill_plan('by_month', newest_first => true);
SELECT ordinal, partition, action FROM backfill_plan('by_month', partitions => '{by_month_3, by_month_rest}');
SELECT ordinal, partition, action FROM backfill_plan('by_tree', partitions => '{by_tree_1}');

-- settings under which a bound reads as another: in Kolkata IST is not the zone of the same name that the server
-- knows, a float of 15 digits is another number, and where an interval has its sign depends on who reads it
CREATE TABLE by_hour (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE by_hour_1 PARTITION OF by_hour FOR VALUES FROM ('2024-03-02 00:00+00') TO ('2024-03-02 01:00+00');
CREATE TABLE by_hour_2 PARTITION OF by_hour FOR VALUES FROM ('2024-03-02 01:00+00') TO ('2024-05-04 00:00+00');
CREATE TABLE by_hour_3 PARTITION OF by_hour DEFAULT;
CREATE TABLE by_hour_source AS
    SELECT '2024-03-01 12:00+00'::timestamptz + g * interval '7 minutes' AS at, g AS v FROM generate_series(1, 500) AS g;
CREATE TABLE by_float (k float8, v int) PARTITION BY RANGE (k);
CREATE TABLE by_float_1 PARTITION OF by_float FOR VALUES FROM (0) TO (0.30000000000000004);
CREATE TABLE by_float_2 PARTITION OF by_float FOR VALUES FROM (0.30000000000000004) TO (0.30000000000000010);
CREATE TABLE by_float_3 PARTITION OF by_float FOR VALUES FROM (0.30000000000000010) TO (1);
CREATE TABLE by_float_source AS SELECT k, 1 AS v FROM unnest('{0.1, 0.3, 0.30000000000000004, 0.30000000000000010, 0.9}'::float8[]) AS k;
CREATE TABLE by_interval (k interval, v int) PARTITION BY RANGE (k);
CREATE TABLE by_interval_1 PARTITION OF by_interval FOR VALUES FROM ('-2 days') TO ('-1 days +02:00:00');
CREATE TABLE by_interval_2 PARTITION OF by_interval FOR VALUES FROM ('-1 days +02:00:00') TO ('1 mon -1 days');
CREATE TABLE by_interval_source AS SELECT g * interval '90 minutes' AS k, g AS v FROM generate_series(-20, 400) AS g;
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Asia/Kolkata';
SET extra_float_digits = 0;
SET IntervalStyle = 'sql_standard';
CREATE PROCEDURE rebuild(target text, method text) LANGUAGE plpgsql AS $$
DECLARE
    number bigint := backfill_start(target, target || '_source', swap => method, delay => '0', keep_old => false);
BEGIN
    COMMIT;
    RAISE INFO '% by %: %', target, method, backfill_wait(number, '60 s');
    CALL compare(target);
END
$$;
CALL rebuild('by_hour', 'attach');
CALL rebuild('by_hour', 'storage');
CALL rebuild('by_float', 'attach');
CALL rebuild('by_float', 'storage');
CALL rebuild('by_interval', 'attach');
CALL rebuild('by_interval', 'storage');
RESET ALL;
SET search_path = kinds, public;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SELECT partition, range_start, range_end, rows FROM backfill_progress
WHERE job IN (SELECT max(job) FROM backfill_status WHERE target IN ('kinds.by_hour', 'kinds.by_float', 'kinds.by_interval') GROUP BY target)
ORDER BY job, ordinal;
SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class
WHERE relname ~ '^by_(hour|float|interval)_[0-9]$' ORDER BY relname COLLATE "C";
RESET TimeZone;

-- a setting under which NULL in an array is a word is refused; one that the role has only from then on does not matter
CREATE TABLE by_array (k text[], v int) PARTITION BY LIST (k);
CREATE TABLE by_array_1 PARTITION OF by_array FOR VALUES IN ('{a,NULL}');
CREATE TABLE by_array_2 PARTITION OF by_array FOR VALUES IN ('{a,"NULL"}');
CREATE TABLE by_array_3 PARTITION OF by_array DEFAULT;
CREATE TABLE by_array_source AS SELECT k, 1 AS v FROM unnest(ARRAY['{a,NULL}', '{a,"NULL"}', '{b}', NULL]) AS t, LATERAL (SELECT t::text[] AS k) AS a;
SET array_nulls = off;
SELECT backfill_start('by_array', 'by_array_source', delay => '0');
RESET array_nulls;
ALTER ROLE CURRENT_USER SET array_nulls = off;
SELECT backfill_start('by_array', 'by_array_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
ALTER ROLE CURRENT_USER RESET array_nulls;
CALL compare('by_array');
SELECT tableoid::regclass::text COLLATE "C" AS partition, k FROM by_array ORDER BY 1, 2;
SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ~ '^by_array_[0-9]$' AND relispartition ORDER BY relname COLLATE "C";

-- nothing of ours is left
SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'backfill\_%\_new';
SELECT conrelid::regclass, conname FROM pg_constraint WHERE conname LIKE 'partbackfill%';
SELECT count(backfill_purge(job)) > 0 AS purged FROM backfill_status WHERE target LIKE 'kinds.%';
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%';
DROP SCHEMA kinds CASCADE;
