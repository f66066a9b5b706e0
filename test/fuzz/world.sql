-- What the fuzzers find: partitioned tables of every kind, and all else that a regclass may name.
CREATE ROLE jo LOGIN;
CREATE ROLE stranger LOGIN;
GRANT stranger TO jo;
GRANT ALL ON SCHEMA public TO jo;
GRANT CREATE ON DATABASE postgres TO jo;
ALTER DATABASE postgres SET lock_timeout = '300 ms';

CREATE FOREIGN DATA WRAPPER no_wrapper;
CREATE SERVER no_server FOREIGN DATA WRAPPER no_wrapper;
CREATE FOREIGN TABLE foreign_table (k integer, v text) SERVER no_server;
ALTER FOREIGN TABLE foreign_table OWNER TO jo;

-- The number of a table that was there.
CREATE TABLE dropped ();
SELECT 'dropped'::regclass::oid AS gone \gset
DROP TABLE dropped;
CREATE FUNCTION gone() RETURNS oid LANGUAGE sql IMMUTABLE RETURN (:gone)::oid;

-- The call that a setting names, in the middle of a command.
CREATE FUNCTION call_in_event() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('fuzz.call', true) <> '' THEN
        EXECUTE 'SELECT * FROM ' || current_setting('fuzz.call');
    END IF;
END
$$;
CREATE EVENT TRIGGER call_in_event ON ddl_command_end WHEN TAG IN ('CREATE SEQUENCE') EXECUTE FUNCTION call_in_event();

CREATE FUNCTION as_definer(call text) RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SELECT * FROM ' || call;
END
$$;
ALTER FUNCTION as_definer(text) OWNER TO stranger;

SET ROLE jo;
CREATE TABLE t (k integer NOT NULL, v text) PARTITION BY RANGE (k);
SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', n, 10 * n - 10, 10 * n)
FROM generate_series(1, 4) AS n \gexec
ALTER TABLE t ADD PRIMARY KEY (k);
CREATE INDEX an_index ON t (v);
CREATE TABLE truth AS SELECT k, 'v' || k AS v FROM generate_series(0, 39) AS k;
INSERT INTO t SELECT k, 'old' FROM truth;
CREATE VIEW v_truth AS SELECT v, k FROM truth;

CREATE TABLE list_table (k text, v text) PARTITION BY LIST (k);
CREATE TABLE list_1 PARTITION OF list_table FOR VALUES IN ('a', NULL);
CREATE TABLE list_2 PARTITION OF list_table FOR VALUES IN ('m', '''', '{}');
CREATE TABLE hash_table (k integer, v text) PARTITION BY HASH (k);
CREATE TABLE hash_1 PARTITION OF hash_table FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE multi (k integer, v text) PARTITION BY RANGE (k, v);
CREATE TABLE multi_1 PARTITION OF multi FOR VALUES FROM (MINVALUE, MINVALUE) TO (10, 'm');
CREATE TABLE sub (k integer, v text) PARTITION BY RANGE (k);
CREATE TABLE sub_1 PARTITION OF sub FOR VALUES FROM (0) TO (20) PARTITION BY LIST (v);
CREATE TABLE sub_1_1 PARTITION OF sub_1 FOR VALUES IN ('x');
CREATE TABLE sub_1_d PARTITION OF sub_1 DEFAULT;
CREATE TABLE timed (k timestamptz, v text) PARTITION BY RANGE (k);
CREATE TABLE timed_1 PARTITION OF timed FOR VALUES FROM ('-infinity') TO ('2024-01-01');
CREATE TABLE timed_2 PARTITION OF timed FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
CREATE TABLE with_default (k numeric, v text) PARTITION BY RANGE (k);
CREATE TABLE with_default_1 PARTITION OF with_default FOR VALUES FROM (0) TO ('NaN');
CREATE TABLE with_default_d PARTITION OF with_default DEFAULT;
CREATE TABLE strange (k integer, v text, "a ""b"" {} %s" text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE TABLE "strange {} %s '1'" PARTITION OF strange FOR VALUES FROM (0) TO (10);
CREATE TABLE strange_foreign PARTITION OF with_default FOR VALUES FROM (-10) TO (-5);
CREATE TABLE empty (k integer, v text) PARTITION BY RANGE (k);
CREATE TABLE a_parent (k integer, v text);
CREATE TABLE inherited () INHERITS (a_parent);
CREATE SCHEMA odd;
CREATE TABLE odd."ta 'b"" {} %s" (k integer, v text) PARTITION BY RANGE (k);
CREATE TABLE odd."pa $$ -- /*" PARTITION OF odd."ta 'b"" {} %s" FOR VALUES FROM (0) TO (20);
CREATE VIEW a_view AS SELECT 1 AS k, 'x' AS v;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS k, 'x' AS v;
CREATE SEQUENCE a_sequence;
CREATE TYPE a_type AS (k integer, v text);

-- The call that a row names, by a trigger; at once, or at the end of the transaction.
CREATE TABLE trap (call text);
CREATE TABLE deferred_trap (call text);
CREATE FUNCTION call_in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SELECT * FROM ' || NEW.call;
    RETURN NEW;
END
$$;
CREATE TRIGGER call BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION call_in_trigger();
CREATE CONSTRAINT TRIGGER call AFTER INSERT ON deferred_trap DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION call_in_trigger();
RESET ROLE;
ANALYZE;
