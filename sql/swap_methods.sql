-- Which method a job takes when it is left to choose.
\set SHOW_CONTEXT never
CREATE SCHEMA swap_methods;
SET search_path = swap_methods, public;
\set VERBOSITY default

CREATE TABLE cat (c int PRIMARY KEY);
INSERT INTO cat VALUES (1);
CREATE TABLE t (k int PRIMARY KEY, c int) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t VALUES (1, 1), (11, 1);

CREATE PROCEDURE rebuild(partitions regclass[] DEFAULT NULL, method text DEFAULT 'auto') LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    number := backfill_start('t', 'SELECT k, c FROM t', partitions => partitions, swap => method, delay => '0', keep_old => false);
    COMMIT;
    RAISE NOTICE '%: %', backfill_wait(number), (SELECT string_agg(DISTINCT p.swap, ', ') FROM backfill_progress AS p WHERE p.job = number);
END
$$;

-- attach carries everything
CALL rebuild();
CALL rebuild(method => 'storage');

-- storage is taken for all of a job when attach would lose something of one partition, and for a job without it attach
CREATE VIEW of_t_2 AS SELECT c FROM t_2;
SELECT partition, action, hazards FROM backfill_plan('t');
CALL rebuild();
SELECT partition, action, hazards FROM backfill_plan('t', partitions => '{t_1}');
CALL rebuild('{t_1}');
CALL rebuild(method => 'attach');

-- ordinary foreign keys
ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES cat;
ALTER TABLE t_1 ADD CONSTRAINT own FOREIGN KEY (k) REFERENCES cat;
CALL rebuild('{t_1}');
SELECT conname, conparentid <> 0 AS inherited, convalidated FROM pg_constraint WHERE conrelid = 't_1'::regclass AND contype = 'f' ORDER BY conname;
DELETE FROM cat;
ALTER TABLE t_1 DROP CONSTRAINT own;

-- neither carries all: each of two partitions is refused by one of them
ALTER TABLE t_1 ADD CONSTRAINT partbackfill_bounds CHECK (k < 10);
SELECT backfill_start('t', 't');
SELECT partition, action, hazards FROM backfill_plan('t');
ALTER TABLE t_1 DROP CONSTRAINT partbackfill_bounds;
CREATE TABLE self (k int PRIMARY KEY, up int REFERENCES self) PARTITION BY RANGE (k);
CREATE TABLE self_1 PARTITION OF self FOR VALUES FROM (0) TO (10);
CREATE TABLE self_2 PARTITION OF self FOR VALUES FROM (10) TO (20);
SELECT backfill_start('self', 'self');
SELECT backfill_start('self', 'self', partitions => '{self_1}');

-- for the same reason
CREATE FOREIGN DATA WRAPPER swap_methods;
CREATE SERVER swap_methods FOREIGN DATA WRAPPER swap_methods;
CREATE TABLE far (k int) PARTITION BY RANGE (k);
CREATE FOREIGN TABLE far_1 PARTITION OF far FOR VALUES FROM (0) TO (10) SERVER swap_methods;
SELECT backfill_start('far', 'SELECT 1 AS k');
CREATE EXTENSION postgres_fdw;
CREATE SERVER "Node 2" FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE far_2 PARTITION OF far FOR VALUES FROM (10) TO (20) SERVER "Node 2" OPTIONS (schema_name 'Sales', table_name 'far');
CREATE FOREIGN TABLE far_3 PARTITION OF far FOR VALUES FROM (20) TO (30) SERVER "Node 2";
SELECT backfill_start('far', 'SELECT 1 AS k', swap => 'storage');
SELECT backfill_start('far', 'SELECT 1 AS k', swap => 'attach', partitions => '{far_3}');

SET client_min_messages = error;
DROP FOREIGN DATA WRAPPER swap_methods CASCADE;
DROP EXTENSION postgres_fdw CASCADE;
DROP SCHEMA swap_methods CASCADE;
