-- The definition of a partition is changed while its shadow is built: the
-- partition is rebuilt with the new one, and nothing of it is lost.
CREATE SCHEMA drift;
SET search_path = drift, public;
SET client_min_messages = warning;
CREATE ROLE backfill_drift;
CREATE TABLE t (k int NOT NULL, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t SELECT g, 'old' FROM generate_series(0, 19) AS g;
-- A build waits in its source while this session holds the lock.
CREATE VIEW source AS SELECT k, 'new'::text AS v FROM generate_series(0, 9) AS k, pg_advisory_xact_lock_shared(4711);

-- Waits until the worker stands at the lock, changes something, lets it go on.
CREATE PROCEDURE change(statement text, method text DEFAULT 'attach', INOUT state text DEFAULT NULL, INOUT rebuilds int DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    PERFORM pg_advisory_lock(4711);
    number := backfill_start('t', 'source', partitions => '{t_1}', swap => method, keep_old => false);
    COMMIT;
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted);
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
    EXECUTE statement;
    COMMIT;
    PERFORM pg_advisory_unlock(4711);
    PERFORM backfill_wait(number, '60 s');
    SELECT p.state, p.rebuilds INTO change.state, change.rebuilds FROM backfill_progress AS p WHERE p.job = number;
END
$$;

CALL change('GRANT SELECT ON t_1 TO backfill_drift');
CALL change('GRANT UPDATE (v) ON t_1 TO backfill_drift');
CALL change('CREATE INDEX t_1_v ON t_1 (v)');
CALL change('COMMENT ON INDEX t_1_v IS $c$found by text$c$');
CALL change('ALTER TABLE t_1 ALTER COLUMN v SET DEFAULT $d$none$d$');
CALL change('ALTER TABLE t_1 ADD CONSTRAINT short CHECK (length(v) < 100)');
CALL change('ALTER TABLE t_1 SET (fillfactor = 80)');
CALL change('ALTER TABLE t_1 ALTER COLUMN v SET STATISTICS 200');
CALL change('ALTER INDEX t_1_v RENAME TO t_1_text');
CALL change('CREATE INDEX t_k_v ON t (k, v)');
CALL change('COMMENT ON TABLE t_1 IS $c$the first$c$');
CALL change('CREATE STATISTICS t_1_both ON k, v FROM t_1');
CALL change('CREATE POLICY watched ON t_1 USING (k > 0)');
CALL change('ALTER TABLE t_1 OWNER TO backfill_drift');
-- what changes no definition costs no rebuild
CALL change('ANALYZE t_1');
CALL change('INSERT INTO t VALUES (11, $v$other$v$) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v');
CALL change('CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (20) TO (30)');
\d t_1
SELECT has_table_privilege('backfill_drift', 't_1', 'SELECT'), attacl FROM pg_attribute WHERE attrelid = 't_1'::regclass AND attname = 'v';
SELECT reloptions, obj_description('t_1'::regclass, 'pg_class'), (SELECT attstattarget FROM pg_attribute WHERE attrelid = 't_1'::regclass AND attname = 'v') FROM pg_class WHERE oid = 't_1'::regclass;
SELECT obj_description('t_1_text'::regclass, 'pg_class');
SELECT tableoid::regclass::text COLLATE "C" AS partition, v, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2;
-- what the new shadow cannot carry fails, and stays as it is
CALL change('CREATE VIEW of_t_1 AS SELECT k FROM t_1');
SELECT v, count(*) FROM t_1 GROUP BY 1;
SELECT split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE partition = 'drift.t_1' ORDER BY job DESC LIMIT 1;
DROP VIEW of_t_1;
-- files are exchanged only between tables that are still alike
CREATE TABLE referred (k int PRIMARY KEY);
INSERT INTO referred SELECT generate_series(0, 19);
CALL change('CREATE INDEX t_1_lower ON t_1 (lower(v))', 'storage');
CALL change('ALTER TABLE t_1 ALTER COLUMN v SET STORAGE EXTERNAL', 'storage');
CALL change('ALTER TABLE t_1 ADD FOREIGN KEY (k) REFERENCES referred', 'storage');
CALL change('CLUSTER t_1 USING t_1_lower', 'storage');
CALL change('REINDEX TABLE t_1', 'storage');
CALL change('CREATE VIEW of_t_1 AS SELECT k FROM t_1', 'storage');
CALL change('ANALYZE t_1', 'storage');
CALL change('ALTER TABLE t ADD more int', 'storage');
SELECT split_part(error, E'\n', 1) AS error FROM backfill_progress WHERE partition = 'drift.t_1' ORDER BY job DESC LIMIT 1;
ALTER TABLE t DROP more;
CALL change('SELECT 1', 'storage');
DROP VIEW of_t_1;
SELECT v, count(*) FROM t_1 GROUP BY 1;
CALL change('ALTER TABLE t DETACH PARTITION t_1', 'storage');
SELECT error FROM backfill_progress WHERE partition = 'drift.t_1' ORDER BY job DESC LIMIT 1;
ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (0) TO (10);
ALTER TABLE t_1 DROP CONSTRAINT t_1_k_fkey;
-- a partition that goes away is skipped
CALL change('ALTER TABLE t DETACH PARTITION t_1');
SELECT error FROM backfill_progress WHERE partition = 'drift.t_1' ORDER BY job DESC LIMIT 1;
SELECT count(*) FROM t_1;
ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (0) TO (10);
-- when it is dropped while it is built, no attempt has failed
CALL change('DROP TABLE t_1');
SELECT attempts, sqlstate, error FROM backfill_progress WHERE partition = 'drift.t_1' ORDER BY job DESC LIMIT 1;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%';
DROP SCHEMA drift CASCADE;
DROP ROLE backfill_drift;
