# The jobs of version 1.0 after ALTER EXTENSION UPDATE: one that is paused, one that has failed, one that was interrupted and
# two that are done come to their end, and their kept tables with them. The state here is what 1.0 left of such jobs.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('updated', settings => [ "shared_preload_libraries = 'partbackfill'", 'partbackfill.crash_pause = 0' ]);
$node->safe_psql('postgres', <<'SQL');
    DROP EXTENSION partbackfill;
    CREATE ROLE alice LOGIN;
    GRANT CREATE ON SCHEMA public TO alice;
    CREATE TABLE fixed (f int);
    GRANT ALL ON fixed TO alice;

    CREATE PROCEDURE make_table(name text, partitions int) LANGUAGE plpgsql AS $$
    BEGIN
        SET LOCAL ROLE alice;
        EXECUTE format('CREATE TABLE %s (k int PRIMARY KEY, v text) PARTITION BY RANGE (k)', name);
        FOR i IN 0 .. partitions - 1 LOOP
            EXECUTE format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES FROM (%2$s00) TO (%3$s00)', name, i, i + 1);
        END LOOP;
        EXECUTE format('INSERT INTO %s SELECT k, ''old'' FROM generate_series(0, %s) AS k', name, 100 * partitions - 1);
        RESET ROLE;
    END
    $$;
    CALL make_table('p', 4);
    CALL make_table('f', 3);
    CALL make_table('d', 2);
    CALL make_table('s', 2);
    CALL make_table('i', 2);

    CREATE EXTENSION partbackfill VERSION '1.0';

    CREATE PROCEDURE make_schemas(job bigint) LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE SCHEMA backfill_%1$s_new; GRANT ALL ON SCHEMA backfill_%1$s_new TO alice;'
                       'CREATE SCHEMA backfill_%1$s_old; GRANT ALL ON SCHEMA backfill_%1$s_old TO alice', job);
    END
    $$;

    -- A shadow; with rows when it is built.
    CREATE FUNCTION make_shadow(job bigint, name text, i int, value text) RETURNS oid LANGUAGE plpgsql AS $$
    DECLARE
        shadow text := format('backfill_%s_new.%s_%s', job, name, i);
    BEGIN
        EXECUTE format('CREATE TABLE %1$s (LIKE public.%2$s INCLUDING ALL); ALTER TABLE %1$s OWNER TO alice', shadow, name);
        EXECUTE format('ALTER TABLE %1$s ADD CONSTRAINT partbackfill_bounds CHECK (k IS NOT NULL AND k >= %2$s00 AND k < %3$s00)', shadow, i, i + 1);
        EXECUTE format('INSERT INTO %s SELECT k, $1 FROM public.%s_%s', shadow, name, i) USING value;
        RETURN shadow::regclass;
    END
    $$;

    -- The table with the old rows.
    CREATE FUNCTION swap_by_attach(job bigint, name text, i int, value text) RETURNS oid LANGUAGE plpgsql AS $$
    DECLARE
        shadow regclass := make_shadow(job, name, i, value);
        old regclass := format('public.%s_%s', name, i);
    BEGIN
        EXECUTE format('ALTER TABLE %1$s DETACH PARTITION %2$s; ALTER TABLE %2$s SET SCHEMA backfill_%3$s_old', name, old, job);
        EXECUTE format('ALTER TABLE %1$s SET SCHEMA public', shadow);
        EXECUTE format('ALTER TABLE %1$s ATTACH PARTITION public.%1$s_%2$s FOR VALUES FROM (%2$s00) TO (%3$s00)', name, i, i + 1);
        EXECUTE format('ALTER TABLE public.%s_%s DROP CONSTRAINT partbackfill_bounds', name, i);
        RETURN old;
    END
    $$;

    -- The former shadow, with the old rows. Files change their places; here it is rows.
    CREATE FUNCTION swap_by_storage(job bigint, name text, i int, value text) RETURNS oid LANGUAGE plpgsql AS $$
    DECLARE
        shadow regclass := make_shadow(job, name, i, 'old');
    BEGIN
        EXECUTE format('UPDATE public.%s_%s SET v = $1', name, i) USING value;
        EXECUTE format('ALTER TABLE %s SET SCHEMA backfill_%s_old', shadow, job);
        RETURN shadow;
    END
    $$;

    CREATE PROCEDURE make_guard(job bigint, name text) LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TRIGGER partbackfill_guard_%1$s_row AFTER INSERT OR UPDATE OR DELETE ON %2$s'
                       ' FOR EACH ROW EXECUTE FUNCTION backfill_guard(%1$L);'
                       'CREATE TRIGGER partbackfill_guard_%1$s_truncate AFTER TRUNCATE ON %2$s EXECUTE FUNCTION backfill_guard(%1$L)', job, name);
        UPDATE pg_trigger SET tgisinternal = true, tgenabled = 'A' WHERE tgrelid = name::regclass AND tgname ~ '^partbackfill_guard_';
    END
    $$;

    -- What the library announces it knows the version of.
    ALTER TABLE backfill_job DISABLE TRIGGER ALL;
    ALTER TABLE backfill_control DISABLE TRIGGER ALL;
    INSERT INTO backfill_job (target_oid, target, source, reads_target, key_type, key_columns, owner, state, tidied, newest_first, workers, delay,
                              nice_ratio, max_wal_rate, max_replica_lag, throttle_query, min_free_disk, on_write, max_attempts, on_error, swap,
                              keep_old, lock_timeout, swap_patience, setting_names, setting_values, started_at, rested_at, finished_at, error)
    SELECT ('public.' || t.name)::regclass, 'public.' || t.name, t.source, true, 'int'::regtype, '{k}', 'alice'::regrole, t.state, t.state <> 'running',
           false, t.workers, '0', t.nice_ratio, t.wal, t.lag, t.throttle, t.disk, 'rebuild', t.attempts, 'continue', t.swap, true, '100 ms', '1 hour',
           t.names, t.values, now() - interval '1 hour', CASE WHEN t.state <> 'running' THEN now() - interval '30 min' END,
           CASE WHEN t.state IN ('done', 'failed') THEN now() - interval '30 min' END, CASE WHEN t.state = 'failed' THEN 'public.f_1: division by zero' END
    FROM (VALUES
        ('d', 'SELECT k, v || ''+'' AS v FROM d', 'done', 1, 0, '64 mb', '1 min'::interval, NULL, '5%', 3, 'attach', '{app.secret}'::text[], '{s3cret}'::text[]),
        ('s', 'SELECT k, v || ''+'' AS v FROM s', 'done', 2, 0, NULL, NULL, NULL, '1.5 kB', 3, 'storage', '{}', '{}'),
        ('f', 'SELECT k, CASE WHEN k = 150 AND (SELECT count(*) FROM fixed) = 0 THEN (k / 0)::text ELSE v || ''+'' END AS v FROM f', 'failed', 1, 0.5, NULL, NULL, NULL,
         '20GB', 1, 'storage', '{}', '{}'),
        ('p', 'SELECT k, v || current_setting(''app.plus'') AS v FROM p', 'paused', 1, 0, '16MB', NULL, 'SELECT false', '0.5 %', 1, 'attach',
         '{app.plus, search_path}', '{+, public}'),
        ('i', 'SELECT k, v || ''+'' AS v FROM i', 'running', 1, 0, '2048', NULL, NULL, NULL, 3, 'attach', '{}', '{}')
    ) AS t (name, source, state, workers, nice_ratio, wal, lag, throttle, disk, attempts, swap, names, values);
    SELECT format('CALL make_schemas(%s)', job) FROM backfill_job \gexec

    INSERT INTO backfill_control (job, ordinal, partition_oid, partition, range_start, range_end, partition_bound, state, attempts, rows, rows_estimate,
                                  wal_bytes, started_at, finished_at, build_time, locked_for, lock_wait, held_time, claim, worker_pid, sqlstate, error)
    SELECT j.job, t.i + 1, (j.target || '_' || t.i)::regclass, j.target || '_' || t.i, 100 * t.i, 100 * (t.i + 1),
           format('FOR VALUES FROM (%s) TO (%s)', 100 * t.i, 100 * (t.i + 1)), t.state, CASE WHEN t.state <> 'pending' THEN 1 ELSE 0 END,
           CASE WHEN t.state IN ('done', 'ready') THEN 100 END, 100, 17000, now() - interval '1 hour',
           CASE WHEN t.state IN ('done', 'failed') THEN now() - interval '30 min' END, '1 s', '2 ms', '3 ms', '4 s', 12345,
           CASE WHEN t.state = 'running' THEN 99999 END, CASE WHEN t.state = 'failed' THEN '22012' END, CASE WHEN t.state = 'failed' THEN 'division by zero' END
    FROM (VALUES ('d', 0, 'done'), ('d', 1, 'done'), ('s', 0, 'done'), ('s', 1, 'done'), ('f', 0, 'done'), ('f', 1, 'failed'), ('f', 2, 'failed'),
                 ('p', 0, 'done'), ('p', 1, 'ready'), ('p', 2, 'pending'), ('p', 3, 'pending'), ('i', 0, 'done'), ('i', 1, 'running')
    ) AS t (name, i, state)
    JOIN backfill_job AS j ON j.target = 'public.' || t.name;
    UPDATE backfill_control AS c
    SET old_oid = CASE j.swap WHEN 'attach' THEN swap_by_attach(c.job, right(j.target, 1), c.ordinal - 1, 'old+')
                              ELSE swap_by_storage(c.job, right(j.target, 1), c.ordinal - 1, 'old+') END
    FROM backfill_job AS j WHERE j.job = c.job AND c.state = 'done';
    -- f_2 was built, and could not be swapped.
    UPDATE backfill_control AS c
    SET shadow_oid = make_shadow(c.job, right(j.target, 1), c.ordinal - 1, 'lost'), built = c.state <> 'running'
    FROM backfill_job AS j WHERE j.job = c.job AND (c.state IN ('ready', 'running') OR c.partition = 'public.f_2');
    UPDATE backfill_control
    SET fingerprint = md5('a'), seal = md5('b'), seen_snapshot = pg_current_snapshot(), seen_guard = '1:1 2:2', seen_file = 1,
        partition_constraint = 'k IS NOT NULL'
    WHERE state <> 'pending';
    CALL make_guard(3, 'public.f_2');
    CALL make_guard(4, 'public.p_1');
    CALL make_guard(5, 'public.i_1');
    ALTER TABLE backfill_job ENABLE ALWAYS TRIGGER announce_start;
    ALTER TABLE backfill_job ENABLE ALWAYS TRIGGER announce;
    ALTER TABLE backfill_control ENABLE ALWAYS TRIGGER announce;
    ALTER TABLE backfill_control ENABLE TRIGGER ALL;
    ALTER TABLE backfill_control ENABLE ALWAYS TRIGGER announce;
SQL

#
# The library of 1.1 with the objects of 1.0: the jobs stay as they are, and writes are noticed
#
my $rows = q{SELECT j::text FROM backfill_job AS j UNION ALL SELECT c::text FROM backfill_control AS c ORDER BY 1};
my $before = $node->safe_psql('postgres', $rows);
$node->restart;
my $log = '';
for (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default) {
    $log = slurp_file($node->logfile);
    last if $log =~ /WARNING:  extension "partbackfill" of database "postgres" has version 1\.0/;
    select undef, undef, undef, 0.01;
}
like($log, qr/WARNING:  extension "partbackfill" of database "postgres" has version 1\.0/, 'before: the launcher says so');
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'partbackfill%' AND datname IS NOT NULL");
is((error_of($node, 'TABLE backfill_status'))[0], '55000', 'before: the view of jobs raises an error');
is((error_of($node, 'TABLE backfill_progress'))[0], '55000', 'before: so does that of partitions');
is((error_of($node, 'SELECT backfill_resume()'))[0], '55000', 'before: no job is resumed');
$node->safe_psql('postgres', <<'SQL');
    UPDATE f SET v = 'written' WHERE k = 250;
    UPDATE p SET v = 'written' WHERE k = 150;
    BEGIN;
    SET LOCAL session_replication_role = replica;
    DELETE FROM p WHERE k = 151;
    COMMIT;
SQL
is($node->safe_psql('postgres', 'SELECT job, count(*) FROM backfill_write GROUP BY 1 ORDER BY 1'), "3|1\n4|2", 'before: writers leave their marks');
is($node->safe_psql('postgres', $rows), $before, 'before: nobody has touched the jobs');

#
# The update
#
my $writer = session($node);
$writer->query_safe('BEGIN');
$writer->query_safe("UPDATE f SET v = 'rolled back' WHERE k = 251");
is((error_of($node, 'ALTER EXTENSION partbackfill UPDATE'))[0], '55P03', 'update: it does not wait for ever for a writer');
$writer->query_safe('ROLLBACK');
$writer->quit;
$node->safe_psql('postgres', 'ALTER EXTENSION partbackfill UPDATE');
is($node->safe_psql('postgres', 'SELECT job, state, partitions, pending, running, ready, done, failed, percent FROM backfill_status'), <<'ROWS' =~ s/\n$//r, 'update: the states of the jobs');
1|done|2|0|0|0|2|0|100.0
2|done|2|0|0|0|2|0|100.0
3|failed|3|0|0|0|1|2|33.3
4|paused|4|3|0|0|1|0|25.0
5|running|2|0|1|0|1|0|50.0
ROWS
is($node->safe_psql('postgres', <<'SQL'), <<'ROWS' =~ s/\n$//r, 'update: the options');
    SELECT job, workers, nice_ratio, max_wal_rate, max_replica_lag, throttle_query, min_free_disk_bytes, min_free_disk_ratio, publish, skip_triggers,
           allow_shrink, label, setting_names, setting_values FROM backfill_job ORDER BY job
SQL
1|1|0|67108864|00:01:00|||0.05|each|f|f||{}|{}
2|2|0||||1536||each|f|f||{}|{}
3|1|0.5||||21474836480||each|f|f||{search_path}|{"\"$user\", public"}
4|1|0|16777216||SELECT false||0.005|each|f|f||{app.plus,search_path}|{+,public}
5|1|0|2048|||||each|f|f||{search_path}|{"\"$user\", public"}
ROWS
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill_job WHERE installation <> backfill_installation()'), '0',
    'update: the jobs belong to this installation');
is($node->safe_psql('postgres', "SELECT job, waiting_on FROM backfill_status WHERE waiting_on IS NOT NULL"),
    "3|no worker: call backfill_resume(3)\n5|no worker: call backfill_resume(5)", 'update: what is left to do is shown');

# What 1.0 had built for a partition is nobody's reason to refuse another job; for this one it is paused.
is((error_of($node, q{SELECT backfill_start('p', 'SELECT k, v FROM p')}))[0], '55006', 'update: a paused job keeps its partitions');

#
# All of them come to their end
#
is($node->safe_psql('postgres', 'SELECT backfill_resume(3)'), '1', 'failed: there is something to tidy up');
is(wait_job($node, 3), 'failed', 'failed: it has failed as before');
is($node->safe_psql('postgres', "SELECT count(*) FROM backfill_write WHERE job = 3"), '0', 'failed: what 1.0 had built is given up');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%' AND tgrelid = 'f_2'::regclass"), '0',
    'failed: writers are not watched for it any more');
$node->safe_psql('postgres', 'INSERT INTO fixed VALUES (1)');
is($node->safe_psql('postgres', 'SELECT backfill_retry(3)'), '2', 'failed: it is retried');
is(wait_job($node, 3), 'done', 'failed: and done');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM f GROUP BY 1 ORDER BY 1'), "old+|299\nwritten+|1", 'failed: the rows are right');

is($node->safe_psql('postgres', "SELECT backfill_alter(4, max_wal_rate => '32MB', nice_ratio => 0.1)"), '', 'paused: its options can be changed');
is($node->safe_psql('postgres', 'SELECT backfill_resume()'), '2', 'paused, interrupted: both are resumed');
is(wait_job($node, 4), 'done', 'paused: done');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM p GROUP BY 1 ORDER BY 1'), "old+|398\nwritten+|1", 'paused: no write is lost');
is(states($node, 4), 'done done done done', 'paused: each partition is done');
is($node->safe_psql('postgres', 'SELECT ordinal, attempts FROM backfill_progress WHERE job = 4 ORDER BY 1'), "1|1\n2|1\n3|1\n4|1",
    'paused: building again is no attempt that failed');
is(wait_job($node, 5), 'done', 'interrupted: done');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM i GROUP BY 1 ORDER BY 1'), 'old+|200', 'interrupted: the rows are right');

for my $job (1, 2) {
    is($node->safe_psql('postgres', "SELECT ordinal, old_rows, new_rows, changed FROM backfill_diff($job)"), "1|100|100|100\n2|100|100|100",
        "done, job $job: old and new rows can be compared");
    is((error_of($node, "SELECT backfill_revert($job)"))[0], '55006', "done, job $job: what was written since is not known");
}
is($node->safe_psql('postgres', 'SELECT backfill_revert(1, force => true)'), '2', 'done: by attach it can be reverted');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM d GROUP BY 1'), 'old|200', 'done: the old rows are back');
is($node->safe_psql('postgres', 'SELECT string_agg(backfill_purge(job)::text, $$ $$ ORDER BY job) FROM backfill_status'), '2 2 3 4 2', 'the old rows are dropped');
is($node->safe_psql('postgres', 'SELECT finished_at < now() - interval $$29 min$$ FROM backfill_status WHERE job = 2'), 't', 'done: it ended when it did');
check_clean($node, 'all of them');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill_job WHERE backfill_forget(job)'), '5', 'the jobs are forgotten');

#
# While a worker is at work
#
my $gate = session($node);
close_gate($gate, 7);
my $job = start_job($node, q{'s', 'SELECT k, v || ''!'' AS v FROM s WHERE pass_gate(7)', delay => '0', keep_old => false});
is($job, '6', 'numbers of jobs go on');
await_at_gate($node, 7);
$node->safe_psql('postgres', "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'partbackfill'");
my ($state, $message) = error_of($node, 'ALTER EXTENSION partbackfill UPDATE');
is($state, '55006', 'at work: there is no update');
like($message, qr/cannot be updated while its workers are at work.*HINT:  Pause the jobs/s, 'at work: the reason is given');
# It finds another version when it looks at its job, and leaves.
$gate->quit;
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'");
$node->safe_psql('postgres', "UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'partbackfill'");
is($node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'running', 'at work: the job is as the worker left it');
is($node->safe_psql('postgres', 'SELECT backfill_resume()'), '1', 'at work: it is resumed');
is(wait_job($node, $job), 'done', 'at work: and done');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM s GROUP BY 1'), 'old+!|200', 'at work: the rows are right');
check_clean($node, 'at work');

$node->stop;
done_testing();
