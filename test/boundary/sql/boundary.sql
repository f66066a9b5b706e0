-- The boundary between C++ and the server: errors cross it both ways, whole, and
-- no destructor is skipped. The functions are in boundary.cpp.
CREATE SCHEMA boundary;
SET search_path = boundary;
CREATE FUNCTION boundary_run(sql text) RETURNS int LANGUAGE c AS '$libdir/partbackfill_boundary';
CREATE FUNCTION boundary_destroyed() RETURNS int LANGUAGE c AS '$libdir/partbackfill_boundary';
CREATE FUNCTION boundary_catch(sql text) RETURNS text LANGUAGE c AS '$libdir/partbackfill_boundary';
CREATE FUNCTION boundary_storm(n int) RETURNS int LANGUAGE c AS '$libdir/partbackfill_boundary';
CREATE FUNCTION boundary_throw(kind text) RETURNS int LANGUAGE c AS '$libdir/partbackfill_boundary';
CREATE FUNCTION complain() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '2200F', MESSAGE = 'the message', DETAIL = 'The detail.', HINT = 'The hint.';
END
$$;

-- an error of nested statements comes out as it went in, and destructors ran
SELECT boundary_run('SELECT boundary.complain()');
\echo :LAST_ERROR_SQLSTATE
SELECT boundary_destroyed(); -- 1: the second object was never made
SELECT boundary_run('SELECT boundary.boundary_run(''SELECT boundary.boundary_run(''''SELECT boundary.complain()'''')'')');
SELECT boundary_destroyed(); -- 3 more
SELECT boundary_run('SELECT 1');
SELECT boundary_destroyed(); -- 2 more

-- C++ catches it whole, and the transaction goes on
BEGIN;
SELECT boundary_catch('SELECT boundary.complain()');
SELECT boundary_catch('SELECT 1 / 0');
SELECT boundary_catch('SELECT boundary.boundary_throw(''error'')');
SELECT boundary_catch('SELECT 1');
SELECT boundary_catch('SELECT boundary.boundary_run(''SELECT boundary.complain()'')');
SELECT 'still alive' AS transaction;
COMMIT;

-- plpgsql catches what C++ threw
DO $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM boundary.boundary_throw('error');
EXCEPTION WHEN division_by_zero THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE INFO '% / % / %', SQLERRM, detail, hint;
END
$$;

-- an error says by name what it is about, and where
DO $$
DECLARE
    schema text;
    "table" text;
    "column" text;
    datatype text;
    "constraint" text;
BEGIN
    PERFORM boundary.boundary_throw('all fields');
EXCEPTION WHEN internal_error THEN
    GET STACKED DIAGNOSTICS schema = SCHEMA_NAME, "table" = TABLE_NAME, "column" = COLUMN_NAME,
                            datatype = PG_DATATYPE_NAME, "constraint" = CONSTRAINT_NAME;
    RAISE INFO '%, %, %, %, %', schema, "table", "column", datatype, "constraint";
END
$$;
SELECT boundary_throw('all fields');
-- every exception becomes an error
SELECT boundary_throw('bad_alloc');
\echo :LAST_ERROR_SQLSTATE
SELECT boundary_throw('runtime_error');
\echo :LAST_ERROR_SQLSTATE
SELECT boundary_throw('int');
SELECT boundary_throw('error');
\echo :LAST_ERROR_SQLSTATE
SELECT boundary_throw('inside guard');
DO $$ BEGIN PERFORM boundary.boundary_throw('huge'); EXCEPTION WHEN OTHERS THEN RAISE INFO '%', length(SQLERRM); END $$;

-- a cancel inside the guard
SET statement_timeout = '100ms';
SELECT boundary_run('SELECT pg_sleep(60)');
\echo :LAST_ERROR_SQLSTATE
SELECT boundary_catch('SELECT pg_sleep(60)');
RESET statement_timeout;

-- many
SELECT boundary_storm(100000);

DROP SCHEMA boundary CASCADE;
