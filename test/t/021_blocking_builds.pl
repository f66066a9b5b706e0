# on_write => 'block': writers wait from the build's snapshot to its swap, readers do not, and nobody waits for ever.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;
use Time::HiRes 'usleep';

my $node = new_node('blocking_builds');
my $holder = session($node);
my $method = $ENV{BACKFILL_SWAP} // 'attach'; # the other one: 023_blocking_builds_storage.pl
my $options = qq{on_write => 'block', swap => '$method', delay => '0', keep_old => false};

sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, raw;
        CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199, 2) AS k;
        CREATE TABLE raw AS SELECT k, 'new' AS v FROM t;
SQL
    return;
}

sub start_blocking_build {
    my ($more) = @_;
    close_gate($holder, 1);
    my $job = start_job($node, q{'t', 'SELECT k, v FROM raw WHERE pass_gate(1)', } . $options . ($more // ''));
    await_at_gate($node, 1);
    return $job;
}

# Begins a statement in the session and waits until it waits for a lock.
sub begin_waiting {
    my ($session, $statement) = @_;
    my $pid = $session->query_safe('SELECT pg_backend_pid()');
    $session->query_until(qr/begun/, "\\echo begun\n$statement;\n");
    await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
    return;
}

{
    my $title = 'writers wait';
    make_table();
    my $job = start_blocking_build();
    my $writer = session($node);
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%'}), '0', "$title: there are no triggers");
    begin_waiting($writer, q{INSERT INTO t VALUES (1, 'w')});
    is($node->safe_psql('postgres', q{SET lock_timeout = '1 s'; SELECT count(*) FROM t}), '100', "$title: readers do not");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($writer->query_safe(q{SELECT v FROM t WHERE k = 1}), 'w', "$title: the write came after it");
    is($node->safe_psql('postgres', q{SELECT string_agg(v || ' ' || count, ', ' ORDER BY v) FROM (SELECT v, count(*) FROM t GROUP BY v) AS s}),
        'new 100, w 1', "$title: into the new rows");
    is($node->safe_psql('postgres', "SELECT sum(rebuilds), sum(attempts) FROM backfill_progress WHERE job = $job"), '0|2',
        "$title: each partition is built once");
    $writer->quit;
    check_clean($node, $title);
}
{
    my $title = 'two workers';
    make_table();
    my $job = start_job($node, qq{'t', 'raw', $options, workers => 2});
    is(wait_job($node, $job), 'done', "$title: take turns");
    is($node->safe_psql('postgres', "SELECT sum(rebuilds) FROM backfill_progress WHERE job = $job"), '0', "$title: nothing is built twice");
    check_clean($node, $title);
}
{
    my $title = 'a writer in the way';
    make_table();
    my $writer = session($node);
    my $pid = $writer->query_safe('SELECT pg_backend_pid()');
    $writer->query_safe(q{BEGIN; INSERT INTO t VALUES (1, 'w')});
    my $job = start_job($node, qq{'t', 'SELECT k, v FROM t', $options});
    await_partition($node, $job, 1, "state = 'pending' AND waiting_on = 'lock (held by $pid)'");
    is($node->safe_psql('postgres', q{SET lock_timeout = '1 s'; INSERT INTO t VALUES (3, 'w') RETURNING k}), '3',
        "$title: holds up the job, and not other writers");
    $writer->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: the job is done once it has ended");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE v = 'w'}), '2', "$title: nothing is lost");
    $writer->quit;
    check_clean($node, $title);
}
{
    my $title = 'a reader who then writes';
    make_table();
    my $job = start_blocking_build();
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    begin_waiting($reader, q{INSERT INTO t VALUES (1, 'w')});
    open_gate($holder, 1);
    # The swap waits for it and it waits for the swap: the swap gives way.
    is($reader->query_safe('SELECT v FROM t WHERE k = 1; COMMIT'), 'w', "$title: is not canceled");
    is(wait_job($node, $job), 'done', "$title: the job is done then");
    cmp_ok($node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $job AND ordinal = 1"), '>=', 1,
        "$title: the partition is built again for it");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t}), '100', "$title: from the source as it is by then");
    $reader->quit;
    check_clean($node, $title);
}
{
    my $title = 'a reader who writes while the swap wants its locks';
    make_table();
    close_gate($holder, 1);
    my $reader = session($node);
    my $job = start_job($node, qq{'t', 'SELECT k, v FROM raw WHERE pass_gate(1)', $options, partitions => '{t_1}', lock_timeout => '1 min'});
    await_at_gate($node, 1);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    open_gate($holder, 1);
    await_worker($node, $job, q{query LIKE '%swapping%'});
    # The server cancels whoever asks for a lock in the way of one that waits for him, and has something in his.
    usleep(50_000);
    is($reader->query_safe(q{INSERT INTO t VALUES (1, 'w') RETURNING v; COMMIT}), 'w', "$title: is not canceled");
    is(wait_job($node, $job), 'done', "$title: the job is done then");
    $reader->quit;
    check_clean($node, $title);
}
{
    my $title = 'a reader who stays';
    make_table();
    my $before = fingerprint($node, 't_1');
    my $reader = session($node);
    my $pid = $reader->query_safe('SELECT pg_backend_pid()');
    my $job = start_blocking_build(q{, partitions => '{t_1}', swap_patience => '0.5 s'});
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    open_gate($holder, 1);
    await_partition($node, $job, 1, "state IN ('pending', 'failed') AND rebuilds = 1");
    is($node->safe_psql('postgres', q{SET lock_timeout = '1 s'; UPDATE t SET v = v WHERE k = 0 RETURNING k}), '0',
        "$title: writers are let go, and not held again for nothing");
    is(wait_job($node, $job), 'failed', "$title: the job fails");
    is($node->safe_psql('postgres', "SELECT state, rebuilds, sqlstate FROM backfill_progress WHERE job = $job"), 'failed|1|55P03',
        "$title: so does the partition, built once");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"), qr/^could not lock partition "public.t_1"\n/,
        "$title: the error says why");
    $reader->query_safe('COMMIT');
    is(fingerprint($node, 't_1'), $before, "$title: the partition is untouched");

    $title = 'a reader who was there before';
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    await($node, "SELECT xact_start < clock_timestamp() - interval '0.2 s' FROM pg_stat_activity WHERE pid = $pid");
    $job = start_job($node, qq{'t', 'SELECT k, v FROM raw', $options});
    await_partition($node, $job, 1, "state = 'pending' AND waiting_on = 'lock (held by $pid)' AND swap_attempts > 1");
    is($node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $job AND ordinal = 1"), '0',
        "$title: no writer is held for a build that could not be swapped");
    $reader->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: the job is done once he has gone");
    $reader->quit;
    check_clean($node, $title);
}
{
    my $title = 'a cancel';
    make_table();
    my $job = start_blocking_build();
    my $writer = session($node);
    begin_waiting($writer, q{INSERT INTO t VALUES (1, 'w')});
    cancel_job($node, $job);
    is(wait_job($node, $job), 'canceled', "$title: the job is canceled");
    is($writer->query_safe('SELECT v FROM t WHERE k = 1'), 'w', "$title: the writer goes on");
    open_gate($holder, 1);
    $writer->quit;
    check_clean($node, $title);
}

$holder->quit;
$node->stop;
done_testing();
