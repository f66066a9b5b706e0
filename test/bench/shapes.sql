-- Tables and sources of different shapes, each in a schema of its name: a partitioned table t with the partitions t_0 and t_1 by
-- its key k, a view source that computes its rows, and the tables that the view reads. :scale is the share of the rows in percent.
CREATE EXTENSION postgres_fdw;

CREATE PROCEDURE make_partitions(shape text, rows int) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %1$I.t_0 PARTITION OF %1$I.t FOR VALUES FROM (0) TO (%2$s)', shape, rows / 2);
    EXECUTE format('CREATE TABLE %1$I.t_1 PARTITION OF %1$I.t FOR VALUES FROM (%2$s) TO (%3$s)', shape, rows / 2, rows);
    EXECUTE format('INSERT INTO %1$I.t SELECT * FROM %1$I.source', shape);
END
$$;

-- A sum of ten rows for each.
CREATE SCHEMA aggregate;
CREATE TABLE aggregate.raw AS
SELECT g / 10 AS k, g AS id, (g::bigint * 7919 % 100000) / 100.0 AS amount FROM generate_series(0, 5000000 * :scale / 100 - 1) AS g;
CREATE INDEX ON aggregate.raw (k);
CREATE VIEW aggregate.source AS SELECT k, sum(amount) AS total, count(*) AS n, max(id) AS last FROM aggregate.raw GROUP BY k;
CREATE TABLE aggregate.t (k int, total numeric, n bigint, last int, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE INDEX ON aggregate.t (total);
CALL make_partitions('aggregate', 500000 * :scale / 100);

-- From another server, here the same one over its socket.
CREATE SCHEMA fdw;
CREATE TABLE fdw.raw AS SELECT g AS k, md5(g::text) AS v, now() AS at FROM generate_series(0, 1000000 * :scale / 100 - 1) AS g;
CREATE INDEX ON fdw.raw (k);
CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'socket', dbname :'database', fetch_size '1000');
CREATE USER MAPPING FOR CURRENT_USER SERVER itself;
CREATE FOREIGN TABLE fdw.remote (k int, v text, at timestamptz) SERVER itself OPTIONS (schema_name 'fdw', table_name 'raw');
CREATE VIEW fdw.source AS SELECT * FROM fdw.remote;
CREATE TABLE fdw.t (k int, v text, at timestamptz, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE INDEX ON fdw.t (v);
CALL make_partitions('fdw', 1000000 * :scale / 100);

-- Rows of 2 to 20 kB, out of line.
CREATE SCHEMA wide;
CREATE TABLE wide.raw AS
SELECT g AS k, (SELECT string_agg(md5(concat(g, ' ', i)), '') FROM generate_series(1, 62 + g * 7919 % 563) AS i) AS body
FROM generate_series(0, 30000 * :scale / 100 - 1) AS g;
CREATE INDEX ON wide.raw (k);
CREATE VIEW wide.source AS SELECT k, body FROM wide.raw;
CREATE TABLE wide.t (k int, body text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CALL make_partitions('wide', 30000 * :scale / 100);

-- Ten indexes.
CREATE SCHEMA indexes;
CREATE TABLE indexes.raw AS
SELECT g AS k, (g::bigint * 7919 % 1000003)::int AS a, g % 1000 AS b, md5(g::text) AS c, now() + g * interval '1 s' AS d FROM generate_series(0, 300000 * :scale / 100 - 1) AS g;
CREATE INDEX ON indexes.raw (k);
CREATE VIEW indexes.source AS SELECT * FROM indexes.raw;
CREATE TABLE indexes.t (k int, a int, b int, c text, d timestamptz, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE INDEX ON indexes.t (a);
CREATE INDEX ON indexes.t (b);
CREATE INDEX ON indexes.t (c);
CREATE INDEX ON indexes.t (d);
CREATE INDEX ON indexes.t (a, b);
CREATE INDEX ON indexes.t (b, c);
CREATE INDEX ON indexes.t (b, d);
CREATE INDEX ON indexes.t (upper(c));
CREATE INDEX ON indexes.t (d DESC) WHERE b < 500;
CALL make_partitions('indexes', 300000 * :scale / 100);

-- GIN on jsonb.
CREATE SCHEMA gin;
CREATE TABLE gin.raw AS
SELECT g AS k, jsonb_build_object('user', g * 7919 % 50000, 'tags', jsonb_build_array('t' || g % 100, 'u' || g % 977), 'city', md5((g % 5000)::text)) AS v
FROM generate_series(0, 200000 * :scale / 100 - 1) AS g;
CREATE INDEX ON gin.raw (k);
CREATE VIEW gin.source AS SELECT * FROM gin.raw;
CREATE TABLE gin.t (k int, v jsonb, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE INDEX ON gin.t USING gin (v);
CALL make_partitions('gin', 200000 * :scale / 100);

-- 200 columns.
CREATE SCHEMA columns;
SELECT 'CREATE TABLE columns.raw AS SELECT g AS k, ' || string_agg(CASE n % 3 WHEN 0 THEN format('g + %1$s AS c%1$s', n)
           WHEN 1 THEN format('(g %% %1$s)::text AS c%1$s', n) ELSE format('CASE WHEN g %% 2 = 0 THEN now() END AS c%1$s', n) END, ', ' ORDER BY n)
       || ' FROM generate_series(0, ' || 60000 * :scale / 100 - 1 || ') AS g'
FROM generate_series(1, 199) AS n \gexec
CREATE INDEX ON columns.raw (k);
CREATE VIEW columns.source AS SELECT * FROM columns.raw;
CREATE TABLE columns.t (LIKE columns.raw, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CALL make_partitions('columns', 60000 * :scale / 100);

VACUUM (ANALYZE);

-- The least that plain SQL can do for a partition: its rows and indexes, not yet a partition of anything.
CREATE FUNCTION create_table_as(shape text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT statement
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT 0 AS step, format('CREATE TABLE %1$I.%2$s_new AS SELECT * FROM %1$I.source AS source WHERE %3$s', shape, c.relname,
                                 pg_get_partition_constraintdef(c.oid)) AS statement
        UNION ALL
        SELECT 1, regexp_replace(pg_get_indexdef(i.indexrelid), 'INDEX \S+ ON \S+', format('INDEX ON %I.%s_new', shape, c.relname))
        FROM pg_index AS i WHERE i.indrelid = c.oid) AS steps
    WHERE c.relnamespace = shape::regnamespace AND c.relname IN ('t_0', 't_1')
    ORDER BY c.relname, step
$$;

-- With statistics, as partbackfill leaves a partition.
CREATE FUNCTION analyzed(shape text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT create_table_as(shape)
    UNION ALL
    SELECT format('ANALYZE %1$I.t_0_new, %1$I.t_1_new', shape)
$$;

-- What one does without the extension.
CREATE FUNCTION by_hand(shape text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format($script$
        CREATE TABLE %1$I.%2$s_new (LIKE %1$I.t INCLUDING ALL);
        INSERT INTO %1$I.%2$s_new SELECT * FROM %1$I.source AS source WHERE %3$s;
        BEGIN;
        ALTER TABLE %1$I.t DETACH PARTITION %1$I.%2$s;
        ALTER TABLE %1$I.t ATTACH PARTITION %1$I.%2$s_new %4$s;
        DROP TABLE %1$I.%2$s;
        ALTER TABLE %1$I.%2$s_new RENAME TO %2$s;
        COMMIT;$script$, shape, c.relname, pg_get_partition_constraintdef(c.oid), pg_get_expr(c.relpartbound, c.oid))
    FROM pg_class AS c
    WHERE c.relnamespace = shape::regnamespace AND c.relname IN ('t_0', 't_1')
    ORDER BY c.relname
$$;
