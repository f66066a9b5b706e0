-- What backfill_plan says of each partition before a job is started, and what each method refuses.
\set SHOW_CONTEXT never
CREATE SCHEMA hazards;
SET search_path = hazards, public;
SET client_min_messages = error;
\set VERBOSITY default

CREATE TABLE cat (c int PRIMARY KEY);
INSERT INTO cat VALUES (1);
CREATE TABLE t (k int PRIMARY KEY, c int) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
CREATE TABLE t_rest PARTITION OF t DEFAULT;
INSERT INTO t VALUES (1, 1);

-- a small DEFAULT is no matter, a large one is
SELECT partition, action, hazards FROM backfill_plan('t');
INSERT INTO t SELECT k, 1 FROM generate_series(100, 30000) AS k;
SELECT partition, action, regexp_replace(hazards::text, '\(\d+ \w+\)', '(size)') AS hazards FROM backfill_plan('t', range_end => '20');

-- subscribers
CREATE PUBLICATION hazards_table FOR TABLE t;
CREATE PUBLICATION hazards_leaf FOR TABLE t_2;
SELECT partition, action, regexp_replace(unnest(hazards), '\(\d+ \w+\)', '(size)') AS hazard FROM backfill_plan('t', partitions => '{t_2}') WHERE action <> 'skip';
DROP PUBLICATION hazards_table, hazards_leaf;
TRUNCATE t_rest;
BEGIN;
CREATE PUBLICATION hazards_all FOR ALL TABLES;
SELECT partition, unnest(hazards) AS hazard FROM backfill_plan('t', partitions => '{t_2}') WHERE action <> 'skip';
ROLLBACK;

-- foreign keys
ALTER TABLE t_1 ADD FOREIGN KEY (c) REFERENCES cat;
CREATE TABLE child (k int REFERENCES t);
SELECT partition, action, unnest(hazards) FROM backfill_plan('t') WHERE action <> 'skip';
SELECT backfill_start('t', 't', partitions => '{t_1}', swap => 'attach');
SELECT backfill_start('t', 't', partitions => '{t_1}', swap => 'storage', on_write => 'ignore');
SELECT backfill_start('t', 'SELECT 1 AS k, 2 AS c', partitions => '{t_1}', swap => 'storage', delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job);
SELECT sqlstate, regexp_replace(error, 'backfill_\d+_new', 'backfill_N_new', 'g') AS error FROM backfill_progress WHERE job = :job;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job);
SELECT backfill_start('t', 'SELECT 1 AS k, 1 AS c WHERE false', partitions => '{t_1}', swap => 'storage', delay => '0', max_attempts => 1) AS job \gset
SELECT backfill_wait(:job);
SELECT sqlstate, error FROM backfill_progress WHERE job = :job;
SELECT backfill_cancel(:job);
SELECT backfill_wait(:job);
SELECT backfill_start('t', 'SELECT 1 AS k, 1 AS c', partitions => '{t_1}', swap => 'storage', delay => '0') AS job \gset
SELECT backfill_wait(:job);
SELECT tableoid::regclass, * FROM t;
SELECT backfill_purge(:job);

-- what storage refuses
SELECT backfill_start('t', 't', swap => 'copy');
SELECT backfill_start('t', 't', swap => NULL);
CREATE TABLE tree (k int PRIMARY KEY, up int REFERENCES tree) PARTITION BY RANGE (k);
CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (10);
SELECT backfill_start('tree', 'tree', swap => 'storage');
SELECT partition, action, unnest(hazards) FROM backfill_plan('tree');
CREATE TABLE broken (k int) PARTITION BY RANGE (k);
CREATE TABLE broken_1 PARTITION OF broken FOR VALUES FROM (0) TO (10);
INSERT INTO broken VALUES (1), (1);
CREATE UNIQUE INDEX CONCURRENTLY broken_key ON broken_1 (k);
SELECT backfill_start('broken', 'broken', swap => 'storage');
SELECT partition, action, unnest(hazards) FROM backfill_plan('broken');
CREATE ROLE hazards_owner;
GRANT USAGE ON SCHEMA hazards TO hazards_owner;
CREATE TABLE lent (k int, c int REFERENCES cat) PARTITION BY RANGE (k);
CREATE TABLE lent_1 PARTITION OF lent FOR VALUES FROM (0) TO (10);
ALTER TABLE lent OWNER TO hazards_owner;
ALTER TABLE lent_1 OWNER TO hazards_owner;
SET SESSION AUTHORIZATION hazards_owner;
SELECT action, unnest(hazards) FROM backfill_plan('lent');
RESET SESSION AUTHORIZATION;

DROP SCHEMA hazards CASCADE;
DROP ROLE hazards_owner;
