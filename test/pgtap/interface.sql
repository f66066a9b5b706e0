-- The interface that others build on: signatures, columns, privileges.
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
CREATE EXTENSION partbackfill;
BEGIN;
SELECT plan(32);

SELECT function_returns('backfill_start',
    '{regclass,text,text,text,regclass[],boolean,integer,interval,double precision,text,interval,text,text,text,text[],text,integer,text,text,boolean,interval,interval,text,boolean,boolean}'::text[], 'bigint');
SELECT is(pg_get_function_arguments('backfill_start'::regproc),
    'target regclass, source text, range_start text DEFAULT NULL::text, range_end text DEFAULT NULL::text, '
    'partitions regclass[] DEFAULT NULL::regclass[], newest_first boolean DEFAULT false, workers integer DEFAULT 1, '
    'delay interval DEFAULT ''00:00:01''::interval, nice_ratio double precision DEFAULT 0, max_wal_rate text DEFAULT NULL::text, '
    'max_replica_lag interval DEFAULT NULL::interval, throttle_query text DEFAULT NULL::text, min_free_disk text DEFAULT ''5%''::text, on_write text DEFAULT ''rebuild''::text, audits text[] DEFAULT ''{}''::text[], on_error text DEFAULT ''continue''::text, '
    'max_attempts integer DEFAULT 3, swap text DEFAULT ''auto''::text, publish text DEFAULT ''each''::text, keep_old boolean DEFAULT true, '
    'lock_timeout interval DEFAULT ''00:00:00.1''::interval, swap_patience interval DEFAULT ''01:00:00''::interval, label text DEFAULT NULL::text, '
    'skip_triggers boolean DEFAULT false, allow_shrink boolean DEFAULT false',
    'arguments of backfill_start');
SELECT is(pg_get_function_result('backfill_plan'::regproc),
    'TABLE(ordinal integer, partition regclass, range_start text, range_end text, action text, live_rows bigint, '
    'live_bytes bigint, hazards text[])', 'result of backfill_plan');
SELECT function_returns('backfill_cancel', '{bigint}'::text[], 'boolean');
SELECT function_returns('backfill_publish', '{bigint}'::text[], 'integer');
SELECT function_returns('backfill_revert', '{bigint,regclass,boolean}'::text[], 'integer');
SELECT is(pg_get_function_arguments('backfill_revert'::regproc), 'job bigint, partition regclass DEFAULT NULL::regclass, force boolean DEFAULT false',
    'arguments of backfill_revert');
SELECT function_returns('backfill_wait', '{bigint,interval}'::text[], 'text');
SELECT function_returns('backfill_purge', '{bigint}'::text[], 'integer');
SELECT function_returns('backfill_forget', '{bigint}'::text[], 'boolean');
SELECT is(pg_get_function_arguments('backfill_diff'::regproc), 'job bigint, partition regclass DEFAULT NULL::regclass',
    'arguments of backfill_diff');
SELECT is(pg_get_function_result('backfill_diff'::regproc),
    'TABLE(ordinal integer, partition text, old_rows bigint, new_rows bigint, same bigint, changed bigint, '
    'only_old bigint, only_new bigint, changed_columns jsonb)', 'result of backfill_diff');
SELECT is(pg_get_function_arguments('backfill_diff_rows'::regproc), 'job bigint, partition regclass, max_rows integer DEFAULT 20',
    'arguments of backfill_diff_rows');
SELECT is(pg_get_function_result('backfill_diff_rows'::regproc), 'TABLE(kind text, key jsonb, old jsonb, new jsonb)',
    'result of backfill_diff_rows');

SELECT columns_are('backfill_status', ARRAY ['job', 'target', 'source', 'owner', 'state', 'partitions', 'pending', 'running',
    'ready', 'done', 'failed', 'skipped', 'percent', 'bar', 'rows', 'rows_per_second', 'eta', 'waiting_on', 'workers',
    'started_at', 'finished_at', 'error', 'label']);
SELECT columns_are('backfill_progress', ARRAY ['job', 'ordinal', 'partition', 'range_start', 'range_end', 'state', 'phase',
    'percent', 'rows', 'rows_estimate', 'wal_bytes', 'attempts', 'rebuilds', 'swap_attempts', 'waiting_on', 'worker_pid',
    'started_at', 'finished_at', 'build_time', 'throttled_time', 'lock_wait', 'locked_for', 'sqlstate', 'error', 'label', 'swap', 'keys_behind']);
SELECT has_pk('backfill_job');
SELECT has_pk('backfill_control');
SELECT has_pk('backfill_write');

CREATE ROLE backfill_tap_nobody;
SELECT table_privs_are('backfill_job', 'backfill_tap_nobody', '{}');
SELECT table_privs_are('backfill_control', 'backfill_tap_nobody', '{}');
SELECT table_privs_are('backfill_write', 'backfill_tap_nobody', '{}');
SELECT function_privs_are('backfill_guard', '{}'::text[], 'backfill_tap_nobody', '{}');
SELECT function_privs_are('backfill_announce', '{}'::text[], 'backfill_tap_nobody', '{}');
SELECT sequence_privs_are('backfill_job_job_seq', 'backfill_tap_nobody', '{}');
SELECT table_privs_are('backfill_status', 'backfill_tap_nobody', '{SELECT}');
SELECT table_privs_are('backfill_progress', 'backfill_tap_nobody', '{SELECT}');
SELECT ok(bool_and(NOT prosecdef), 'no function runs as its owner')
FROM pg_depend JOIN pg_proc AS p ON p.oid = objid
WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_proc'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'partbackfill');
SELECT ok(reloptions @> '{security_barrier=true}', relname || ' is a security barrier')
FROM pg_class WHERE relname IN ('backfill_status', 'backfill_progress') ORDER BY relname;

-- a view shows a role its own jobs only, and may be read by anybody
SET LOCAL ROLE backfill_tap_nobody;
SELECT lives_ok('SELECT * FROM backfill_status', 'anybody may look');
SELECT throws_ok('UPDATE backfill_job SET source = $$SELECT 1$$', '42501');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
