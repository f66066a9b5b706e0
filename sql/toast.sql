-- A partition whose columns need no TOAST table any more still has one, and gives up by a swap what is in it.
CREATE SCHEMA toast;
SET search_path = toast, public;
SET client_min_messages = warning;
CREATE VIEW toasts AS
    SELECT c.relname, c.relnamespace::regnamespace::text ~ '^backfill' AS kept, pg_relation_size(toast.oid) > 0 AS has_values,
           pg_total_relation_size(toast.oid) > 100000 AS large, toast.reloptions,
           toast.relname = 'pg_toast_' || c.oid AND i.relname = toast.relname || '_index' AS named, d.refobjid = c.oid AS depends
    FROM pg_class AS c
    LEFT JOIN pg_class AS toast ON toast.oid = c.reltoastrelid
    LEFT JOIN pg_index AS ti ON ti.indrelid = toast.oid
    LEFT JOIN pg_class AS i ON i.oid = ti.indexrelid
    LEFT JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = toast.oid
    WHERE c.relname IN ('dropped', 'short', 'plain', 'never') AND c.relkind = 'r';
CREATE VIEW columns AS
    SELECT c.relname, attnum, attisdropped, attstorage, atttypmod FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
    WHERE c.relname IN ('dropped', 'short', 'plain') AND c.relkind = 'r' AND attnum > 0;

-- wide values in columns that are dropped, beside none that may be long and beside short ones
CREATE TABLE t (k int NOT NULL, n int, w text) PARTITION BY RANGE (k);
CREATE TABLE dropped PARTITION OF t FOR VALUES FROM (0) TO (100) WITH (toast.autovacuum_vacuum_threshold = 77);
ALTER TABLE dropped ALTER w SET STORAGE EXTERNAL;
INSERT INTO t SELECT g, 0, repeat('w', 4000) FROM generate_series(0, 99) AS g;
ALTER TABLE t DROP w;
CREATE TABLE s (k int NOT NULL, n varchar(4), w text) PARTITION BY RANGE (k);
CREATE TABLE short PARTITION OF s FOR VALUES FROM (0) TO (100);
ALTER TABLE short ALTER w SET STORAGE EXTERNAL;
INSERT INTO s SELECT g, 0, repeat('w', 4000) FROM generate_series(0, 99) AS g;
ALTER TABLE s DROP w;
-- wide values in a column that takes no more of them; they are read from there
CREATE TABLE p (k int NOT NULL, n int, w text) PARTITION BY RANGE (k);
CREATE TABLE plain PARTITION OF p FOR VALUES FROM (0) TO (100) WITH (toast.autovacuum_vacuum_threshold = 77);
ALTER TABLE plain ALTER w SET STORAGE EXTERNAL;
INSERT INTO p SELECT g, 0, repeat('w', 4000) FROM generate_series(0, 99) AS g;
ALTER TABLE plain ALTER w SET STORAGE PLAIN;
CREATE TABLE before AS TABLE columns;
SELECT * FROM toasts ORDER BY relname;

SELECT backfill_start('t', 'SELECT k, n + 1 AS n FROM t', delay => '0', swap => 'storage') AS of_t \gset
SELECT backfill_start('s', 'SELECT k, n::int + 1 AS n FROM s', delay => '0', swap => 'storage') AS of_s \gset
SELECT backfill_start('p', 'SELECT k, n + 1 AS n, left(w, 10) AS w FROM p', delay => '0', swap => 'storage') AS of_p \gset
SELECT backfill_wait(job, '60 s') FROM unnest(ARRAY [:of_t, :of_s, :of_p]) AS job;
SELECT * FROM toasts ORDER BY relname, kept;
SELECT * FROM columns EXCEPT SELECT * FROM before; -- of the old tables
SELECT 't' AS from, n::text, count(*), 0 AS longest FROM t GROUP BY 2
UNION ALL SELECT 's', n, count(*), 0 FROM s GROUP BY 2
UNION ALL SELECT 'p', n::text, count(*), max(length(w)) FROM p GROUP BY 2;
-- the old rows have their values
SELECT set_config('search_path', format('backfill_%s_old, public', :of_p), false) IS NOT NULL;
SELECT length(w), count(*) FROM plain GROUP BY 1;
UPDATE plain SET n = 1 WHERE k = 7;
SELECT sum(length(w)) FROM plain;
SET search_path = toast, public;
SELECT backfill_purge(job) FROM unnest(ARRAY [:of_t, :of_s, :of_p]) AS job;
SELECT * FROM toasts ORDER BY relname, kept;
SELECT * FROM columns EXCEPT SELECT * FROM before;

-- a partition that has none gets none, and one as soon as it needs one
CREATE TABLE never PARTITION OF t FOR VALUES FROM (100) TO (200);
INSERT INTO t SELECT g, 0 FROM generate_series(100, 199) AS g;
SELECT backfill_start('t', 'SELECT k, n + 1 AS n FROM t', delay => '0', swap => 'storage') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT * FROM toasts WHERE relname IN ('dropped', 'never') ORDER BY relname, kept;
ALTER TABLE t ADD w text;
ALTER TABLE dropped ALTER w SET STORAGE EXTERNAL;
ALTER TABLE never ALTER w SET STORAGE EXTERNAL;
UPDATE t SET w = repeat('w', 4000) WHERE k % 100 < 50;
SELECT * FROM toasts WHERE relname IN ('dropped', 'never') ORDER BY relname, kept;
SELECT tableoid::regclass, n, length(w), count(*) FROM t GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT backfill_purge(:job);

DROP SCHEMA toast CASCADE;
