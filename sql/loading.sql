-- What a rebuilt partition is like inside.
CREATE EXTENSION amcheck;
CREATE EXTENSION pg_visibility;
CREATE SCHEMA loading;
SET search_path = loading, public;
SET client_min_messages = warning;

CREATE TABLE wide (id int, k int, small text, large text, doc jsonb, at timestamptz, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
CREATE TABLE wide_1 PARTITION OF wide FOR VALUES FROM (0) TO (10);
CREATE UNLOGGED TABLE wide_2 (LIKE wide INCLUDING ALL) WITH (fillfactor = 70, autovacuum_enabled = off);
ALTER TABLE wide ATTACH PARTITION wide_2 FOR VALUES FROM (10) TO (20);
CREATE INDEX ON wide (small);
CREATE INDEX ON wide USING gin (doc);
CREATE INDEX ON wide (lower(small)) WHERE id % 2 = 0;
-- what is large is out of line, in the source too: the copy must have values of its own
CREATE TABLE wide_source AS
    SELECT g AS id, g % 20 AS k, 'small ' || g AS small,
           (SELECT string_agg(md5((g * 1000 + i)::text), '') FROM generate_series(1, 200 * (g % 7)) AS i) AS large,
           jsonb_build_object('n', g, 'even', g % 2 = 0) AS doc, '2024-01-01'::timestamptz + g * interval '1 minute' AS at
    FROM generate_series(1, 3000) AS g;
SELECT backfill_start('wide', 'wide_source', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT sum(rows) FROM backfill_progress WHERE job = :job;
CREATE TABLE expected AS TABLE wide_source;
DROP TABLE wide_source; -- with its TOAST table
SELECT count(*) AS different FROM (TABLE expected EXCEPT ALL TABLE wide) AS d;
SELECT count(*) AS different FROM (TABLE wide EXCEPT ALL TABLE expected) AS d;

-- every page is all-visible and all-frozen
SELECT partition, count(*) > 0 AS pages, count(*) FILTER (WHERE NOT (all_visible AND all_frozen AND pd_all_visible)) AS not_frozen
FROM unnest('{wide_1, wide_2}'::regclass[]) AS partition CROSS JOIN LATERAL pg_visibility(partition)
GROUP BY 1 ORDER BY 1;
SELECT partition, pg_check_visible(partition) FROM unnest('{wide_1, wide_2}'::regclass[]) AS partition;
SELECT partition, pg_check_frozen(partition) FROM unnest('{wide_1, wide_2}'::regclass[]) AS partition;
-- every index knows every row
SELECT i.indexrelid::regclass, bt_index_check(i.indexrelid, true)
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
WHERE i.indrelid IN ('wide_1'::regclass, 'wide_2'::regclass) AND a.amname = 'btree' ORDER BY 1;
SELECT count(*) FROM verify_heapam('wide_1');
SELECT indexrelid::regclass FROM pg_index WHERE indrelid IN ('wide_1'::regclass, 'wide_2'::regclass) AND NOT (indisvalid AND indisready AND indislive);
-- statistics are there at once
SELECT tablename, count(*) AS columns FROM pg_stats WHERE schemaname = 'loading' AND tablename LIKE 'wide\__' GROUP BY 1 ORDER BY 1;
SELECT relname, reltuples, relpersistence, reloptions FROM pg_class WHERE oid IN ('wide_1'::regclass, 'wide_2'::regclass) ORDER BY 1;
SELECT backfill_purge(:job);

-- wide rows do not need memory for a thousand of them
CREATE TABLE long (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE long_1 PARTITION OF long FOR VALUES FROM (0) TO (1000);
SELECT backfill_start('long', 'SELECT g AS k, repeat(''x'', 100000) AS v FROM generate_series(0, 999) AS g', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT count(*), sum(length(v)) FROM long;
-- an empty partition
SELECT backfill_start('long', 'SELECT 1 AS k, ''''::text AS v WHERE false', delay => '0', allow_shrink => true) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT count(*) FROM long;

-- Another table access method writes the rows as COPY has it do. This one is the
-- heap by another name: the loader goes by the name.
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE other (k int PRIMARY KEY, v text, w int GENERATED ALWAYS AS (k * 2) STORED) PARTITION BY RANGE (k);
CREATE TABLE other_1 PARTITION OF other FOR VALUES FROM (0) TO (100) USING heap2;
INSERT INTO other SELECT g, 'old' FROM generate_series(0, 99) AS g;
SELECT backfill_start('other', 'SELECT k, ''new''::text AS v FROM other WHERE k >= $1 AND k < $2', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT count(*), min(v), sum(w) FROM other;
SELECT a.amname, c.relrewrite FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam WHERE c.oid = 'other_1'::regclass;
SELECT bt_index_check('other_1_pkey', true);
SELECT backfill_purge(:job);

-- domains and their constraints, casts between columns
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE typed (k int, p positive, i interval, s smallint) PARTITION BY RANGE (k);
CREATE TABLE typed_1 PARTITION OF typed FOR VALUES FROM (0) TO (100);
SELECT backfill_start('typed', 'SELECT k, k AS p, ''1 day''::interval AS i, k::bigint AS s FROM generate_series(1, 9) AS k', delay => '0') AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT count(*), sum(p), sum(s) FROM typed;
SELECT backfill_start('typed', 'SELECT k, k - 5 AS p, ''1 day''::interval AS i, k::bigint AS s FROM generate_series(1, 9) AS k', delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT split_part(error, E'\n', 1) FROM backfill_progress WHERE job = :job;
SELECT count(backfill_purge(job)) > 0 AS purged FROM backfill_status WHERE target LIKE 'loading.%';
DROP SCHEMA loading CASCADE;
DROP ACCESS METHOD heap2;
DROP EXTENSION amcheck, pg_visibility;
