# A job is stopped where it stands, whatever it is doing: done partitions stay done, the others keep their old rows,
# nothing else remains. And what only looks like a cancel does not stop it.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('cancel', settings => ['max_prepared_transactions = 4']);
my $holder = session($node);

# Partitions 1, 2 and 3 hold keys from 0, 1000 and 100000 on; a source that is to be slow is so from 1000 on.
$node->safe_psql('postgres', <<'SQL');
    CREATE PROCEDURE make_table(name text) LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TABLE %I (k int NOT NULL, v text) PARTITION BY RANGE (k)', name);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (0) TO (1000)', name || '_1', name);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (1000) TO (100000)', name || '_2', name);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (100000) TO (200000)', name || '_3', name);
        EXECUTE format('INSERT INTO %I SELECT g, %L FROM generate_series(0, 199999, 500) AS g', name, 'old');
    END
    $$;
    CREATE TABLE new AS SELECT g AS k, 'new'::text AS v FROM generate_series(0, 199999, 100) AS g;

    CREATE FUNCTION slow_text(k int, v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF k >= 1000 AND v LIKE 'new%' THEN
            PERFORM pg_sleep(0.005);
        END IF;
        RETURN v;
    END
    $$;
SQL

# The table of a case, and the fingerprints of the two partitions that a cancel must spare.
sub make_table {
    my ($table) = @_;
    $node->safe_psql('postgres', "CALL make_table('$table')");
    return;
}

sub old_rows {
    my ($table) = @_;
    return join ' ', map { fingerprint($node, "${table}_$_") } 2, 3;
}

# Partition 1 is done and partition 2 is under way, at the point that the case is about.
sub check_cancel {
    my ($title, $table, $job, $old) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(states($node, $job) =~ s/^done (running|ready|pending) pending$/in the middle/r, 'in the middle',
        "$title: one partition is done, one is under way");
    my ($canceled, $elapsed) = cancel_job($node, $job);
    is($canceled, 't', "$title: the job is canceled");
    diag("$title: the worker was gone $elapsed ms after the cancel");
    ok($elapsed ne '' && $elapsed < 10_000, "$title: its worker is gone soon") or die 'the worker goes on';
    is(wait_job($node, $job), 'canceled', "$title: backfill_wait says so");
    is(states($node, $job), 'done canceled canceled', "$title: the states of the partitions");
    is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v LIKE 'new%') FROM ${table}_1"),
        '10|10', "$title: the partition that was done has its new rows");
    is(old_rows($table), $old, "$title: the others are as they were");
    check_clean($node, $title);
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 'f', "$title: there is nothing left to cancel");
    is($node->safe_psql('postgres', "SELECT count(*) FROM backfill_status WHERE job = $job AND finished_at IS NOT NULL"),
        '1', "$title: the job has an end");
    return;
}

#
# Cancel, where it hurts
#
{
    my $title = 'a slow load';
    make_table('flow');
    my $old = old_rows('flow');
    my $job = start_job($node, <<'SQL');
        'flow', $$
            SELECT g AS k, slow_text(g, 'new' || repeat('x', 5000)) AS v
            FROM generate_series($1, $2 - 1, CASE $1 WHEN 0 THEN 100 ELSE 1 END) AS g
        $$, delay => '0', keep_old => false
SQL
    await_partition($node, $job, 2, "phase = 'loading' AND rows > 0");
    check_cancel($title, 'flow', $job, $old);
}
{
    my $title = 'a parallel load';
    make_table('parallel');
    my $old = old_rows('parallel');
    my $job = start_job($node, <<'SQL', 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0');
        'parallel', 'SELECT * FROM new WHERE k < 1000 OR pg_sleep(1) IS NOT NULL', delay => '0', keep_old => false
SQL
    await($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'PgSleep'");
    check_cancel($title, 'parallel', $job, $old);
}
{
    my $title = 'a source that gives no row yet';
    make_table('stuck');
    my $old = old_rows('stuck');
    my $job = start_job($node, <<'SQL');
        'stuck', $$
            SELECT k, v FROM new WHERE CASE WHEN $1 > 0 THEN (SELECT 1 FROM pg_sleep(1000)) = 1 ELSE true END
        $$, delay => '0', keep_old => false
SQL
    await_worker($node, $job, "wait_event = 'PgSleep'");
    check_cancel($title, 'stuck', $job, $old);
}
{
    my $title = 'a big sort';
    make_table('sort');
    my $old = old_rows('sort');
    # A sort that has begun to spill has still far to go to its first row.
    my $job = start_job($node, <<'SQL', 'SET work_mem = 64');
        'sort', $$
            SELECT k, 'new'::text AS v
            FROM (SELECT k, n FROM new, generate_series(1, CASE $1 WHEN 0 THEN 1 ELSE 1000000 END) AS n
                  ORDER BY md5(k::text || n::text)) AS s
        $$, delay => '0', keep_old => false
SQL
    await($node, "SELECT count(*) > 0 FROM pg_ls_tmpdir() WHERE size > 1000000");
    check_cancel($title, 'sort', $job, $old);
}
{
    my $title = 'an index build';
    make_table('indexed');
    $node->safe_psql('postgres', 'CREATE INDEX ON indexed (v); CREATE INDEX ON indexed (slow_text(k, v))');
    my $old = old_rows('indexed');
    my $job = start_job($node, <<'SQL');
        'indexed', $$
            SELECT g AS k, 'new'::text AS v
            FROM generate_series($1, $2 - 1, CASE $1 WHEN 0 THEN 100 ELSE 1 END) AS g
        $$, delay => '0', keep_old => false
SQL
    await_partition($node, $job, 2, "phase = 'indexing'");
    await_worker($node, $job, "query LIKE '%indexing 2/2%' AND wait_event = 'PgSleep'");
    check_cancel($title, 'indexed', $job, $old);
}
{
    my $title = 'the delay between partitions';
    make_table('delayed');
    my $old = old_rows('delayed');
    my $job = start_job($node, "'delayed', 'new', delay => '1 hour', keep_old => false");
    await_partition($node, $job, 1, "state = 'done'");
    await_worker($node, $job, "state = 'idle' AND wait_event_type = 'Extension'");
    check_cancel($title, 'delayed', $job, $old);
}
{
    my $title = 'a swap that waits';
    make_table('swapped');
    my $old = old_rows('swapped');
    my $reader = session($node);
    close_gate($holder, 1);
    my $job = start_job($node,
        q{'swapped', 'SELECT * FROM new WHERE CASE WHEN k < 1000 THEN true ELSE pass_gate(1) END',}
            . q{ delay => '0', keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    await_at_gate($node, 1);
    $reader->query_safe('BEGIN; SELECT count(*) FROM swapped');
    open_gate($holder, 1);
    await_partition($node, $job, 2, "state = 'ready' AND swap_attempts > 0");
    # Now partition 3 is built as well, or is not: both are fine.
    my ($canceled, $elapsed) = cancel_job($node, $job);
    is($canceled, 't', "$title: the job is canceled");
    diag("$title: the worker was gone $elapsed ms after the cancel");
    ok($elapsed ne '' && $elapsed < 10_000, "$title: its worker is gone soon, while the reader stays");
    is(wait_job($node, $job), 'canceled', "$title: backfill_wait says so");
    is(states($node, $job), 'done canceled canceled', "$title: the states of the partitions");
    is(old_rows('swapped'), $old, "$title: the others are as they were");
    check_clean($node, $title);
    is($reader->query_safe('SELECT count(*) FROM swapped WHERE v LIKE $$new%$$'), '10', "$title: the reader reads on");
    $reader->query_safe('COMMIT');
    $reader->quit;
    # The partitions are free again.
    $job = start_job($node, "'swapped', 'new', delay => '0', keep_old => false");
    is(wait_job($node, $job), 'done', "$title: another job rebuilds them");
    is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v LIKE 'new%') FROM swapped"),
        '2000|2000', "$title: with all the rows");
    check_clean($node, $title);
}

#
# A cancel that is taken back
#
{
    my $title = 'a cancel that is rolled back';
    make_table('undone');
    close_gate($holder, 1);
    my $job = start_job($node, q{'undone', 'SELECT * FROM new WHERE pass_gate(1)', delay => '0', max_attempts => 1,}
            . q{ keep_old => false});
    my $pid = await_at_gate($node, 1);
    my $session = session($node);
    is($session->query_safe("BEGIN; SELECT backfill_cancel($job)"), 't', "$title: it says what it would do");
    $session->query_safe('ROLLBACK');
    is($session->query_safe("BEGIN; SAVEPOINT a; SELECT backfill_cancel($job)"), 't', "$title: once more, after a savepoint");
    $session->query_safe('ROLLBACK TO a; COMMIT');
    $session->quit;
    is($node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'running',
        "$title: the job goes on");
    is(worker_pid($node, $job, 1), $pid, "$title: with its worker");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: and is done");
    is($node->safe_psql('postgres',
            "SELECT string_agg(format('%s %s', attempts, sqlstate), ',') FROM backfill_progress WHERE job = $job"),
        '1 ,1 ,1 ', "$title: no attempt was interrupted");
    check_clean($node, $title);
}
{
    my $title = 'a cancel in a savepoint that is kept';
    make_table('kept');
    close_gate($holder, 1);
    my $job = start_job($node, q{'kept', 'SELECT * FROM new WHERE pass_gate(1)', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    $node->safe_psql('postgres', "BEGIN; SAVEPOINT a; SELECT backfill_cancel($job); RELEASE a; COMMIT");
    is(wait_job($node, $job), 'canceled', "$title: it is canceled");
    open_gate($holder, 1);
    check_clean($node, $title);
}
{
    my $title = 'a job canceled by the transaction that starts it';
    make_table('unborn');
    my $old = fingerprint($node, 'unborn_1');
    my $job = $node->safe_psql('postgres', <<'SQL');
        BEGIN;
        SELECT backfill_start('unborn', 'new') AS job \gset
        SELECT backfill_cancel(:job) \g /dev/null
        COMMIT;
        \echo :job
SQL
    is(wait_job($node, $job), 'canceled', "$title: it is canceled");
    is(states($node, $job), 'canceled canceled canceled', "$title: before it began");
    is(fingerprint($node, 'unborn_1'), $old, "$title: the table is as it was");
    check_clean($node, $title);
}

#
# Workers that are ended or interrupted by others
#
{
    my $title = 'a worker terminated between partitions';
    make_table('killed');
    my $job = start_job($node, "'killed', 'new', partitions => '{killed_1,killed_2}', delay => '1 hour', keep_old => false");
    await_partition($node, $job, 1, "state = 'done'");
    my $pid = await_worker($node, $job, "state = 'idle' AND wait_event_type = 'Extension'");
    is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', "$title: it is told to end");
    await_partition($node, $job, 2, "state = 'done'");
    # After the last partition there is nothing to be slow for.
    is(wait_job($node, $job), 'done', "$title: the job goes on and is done");
    is($node->safe_psql('postgres', "SELECT string_agg(attempts::text, ' ') FROM backfill_progress WHERE job = $job"),
        '1 1', "$title: each partition was built once");
    is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v LIKE 'new%') FROM killed WHERE k < 100000"),
        '1000|1000', "$title: with all the rows");
    check_clean($node, $title);
}
{
    my $title = 'a worker terminated while its swap waits';
    make_table('killed_ready');
    my $reader = session($node);
    close_gate($holder, 1);
    my $job = start_job($node, q{'killed_ready', 'SELECT * FROM new WHERE pass_gate(1)', partitions => '{killed_ready_2}',}
            . q{ delay => '0', keep_old => false});
    await_at_gate($node, 1);
    $reader->query_safe('BEGIN; SELECT count(*) FROM killed_ready');
    open_gate($holder, 1);
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    my $pid = await_worker($node, $job, 'true');
    $node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
    await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
    $reader->query_safe('COMMIT');
    $reader->quit;
    is(wait_job($node, $job), 'done', "$title: the job goes on and is done");
    is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job"), '1',
        "$title: what was built was not built again");
    is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v LIKE 'new%') FROM killed_ready_2"),
        '990|990', "$title: with all the rows");
    check_clean($node, $title);
}
{
    my $title = 'a worker terminated in a build';
    make_table('orphan');
    my $old = fingerprint($node, 'orphan_1');
    close_gate($holder, 1);
    my $job = start_job($node,
        q{'orphan', 'SELECT * FROM new WHERE CASE WHEN k < 1000 THEN pass_gate(1) ELSE pass_gate(2) END',}
            . q{ workers => 2, max_attempts => 1, delay => '0', keep_old => false});
    await_partition($node, $job, 1, "phase = 'loading'");
    await_at_gate($node, 1);
    my $pid = worker_pid($node, $job, 1);
    $node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
    is(wait_job($node, $job), 'failed', "$title: the last attempt it had");
    is(states($node, $job), 'failed done done', "$title: the other worker does the rest");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 1"),
        qr/the worker that rebuilt partition "public\.orphan_1" ended in attempt 1/, "$title: the error says so");
    is(fingerprint($node, 'orphan_1'), $old, "$title: the partition is as it was");
    open_gate($holder, 1);
    check_clean($node, $title);
}
{
    my $title = 'a worker interrupted in a build';
    make_table('interrupted');
    close_gate($holder, 1);
    my $job = start_job($node, q{'interrupted', 'SELECT * FROM new WHERE pass_gate(1)', partitions => '{interrupted_2}',}
            . q{ delay => '0', keep_old => false});
    await_at_gate($node, 1);
    my $pid = worker_pid($node, $job, 1);
    is($node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)"), 't', "$title: it is told to stop");
    await_partition($node, $job, 1, "attempts = 2 AND state = 'running'");
    is($node->safe_psql('postgres', "SELECT sqlstate FROM backfill_progress WHERE job = $job AND ordinal = 1"), '57014',
        "$title: the attempt failed");
    is(worker_pid($node, $job, 1), $pid, "$title: the worker lives on");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v LIKE 'new%') FROM interrupted_2"),
        '990|990', "$title: with all the rows");
    check_clean($node, $title);
}

$holder->quit;
$node->stop;
done_testing();
