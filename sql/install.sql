-- Installing: what there is, and who may do what.
CREATE ROLE backfill_install_reader;
-- privileges that defaults would grant on new tables are taken back
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, backfill_install_reader;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO backfill_install_reader;
CREATE SCHEMA "Odd Schema";
CREATE EXTENSION partbackfill SCHEMA "Odd Schema";
SELECT relname, relkind FROM pg_class
WHERE relnamespace = '"Odd Schema"'::regnamespace AND relkind IN ('r', 'v', 'S', 'i') ORDER BY relname;
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = '"Odd Schema"'::regnamespace ORDER BY oid::regprocedure::text;
SELECT c.relname, a.grantee::regrole, a.privilege_type
FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relnamespace = '"Odd Schema"'::regnamespace AND c.relkind IN ('r', 'S') AND a.grantee <> c.relowner;
ALTER EXTENSION partbackfill SET SCHEMA public;
SELECT proname FROM pg_proc WHERE pronamespace = '"Odd Schema"'::regnamespace
AND obj_description(oid, 'pg_proc') IS NULL;
SELECT relname FROM pg_class WHERE relnamespace = '"Odd Schema"'::regnamespace AND relkind IN ('r', 'v')
AND obj_description(oid, 'pg_class') IS NULL;
-- it works from there, for a caller who has that schema not in his path
CREATE TABLE t (k int) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
SELECT "Odd Schema".backfill_start('t', 'SELECT 5 AS k', keep_old => false) AS job \gset
SELECT "Odd Schema".backfill_wait(:job, '60 s');
SELECT * FROM t;
SELECT job, state, bar FROM "Odd Schema".backfill_status;
DROP TABLE t;
DROP EXTENSION partbackfill;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC, backfill_install_reader;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM backfill_install_reader;
DROP ROLE backfill_install_reader;
-- once more, for the scripts that follow
CREATE EXTENSION partbackfill;
