# A build holds locks on what its source reads, and waits for one on the partition without standing in its queue: the
# server cannot see that a session which holds the partition waits for the build. The build sees it, and gives way.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use Test::More;
use Time::HiRes 'usleep';

my $node = new_node('deadlocks', settings => ['max_prepared_transactions = 4']);
my $holder = session($node);
my $method = $ENV{BACKFILL_SWAP} // 'attach'; # the other one: 045_deadlocks_storage.pl
my $options = qq{swap => '$method', delay => '0', keep_old => false, max_attempts => 1};

sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, raw, other;
        CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199, 2) AS k;
        CREATE TABLE raw AS SELECT k, 'new' AS v FROM t;
        CREATE TABLE other (k int);
        CREATE OR REPLACE FUNCTION others() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM other); END';
SQL
    return;
}

# A job whose first build has read the source's first row and stands at the gate.
sub start_held {
    my ($more, $source) = @_;
    make_table();
    close_gate($holder, 1);
    my $job = start_job($node, sprintf(q{'t', '%s', %s%s}, $source // 'SELECT k, v FROM raw WHERE pass_gate(1)', $options, $more // ''));
    await_at_gate($node, 1);
    return $job;
}

# A session that does not wait for ever.
sub migration {
    my $session = session($node);
    $session->query_safe(q{SET lock_timeout = '20 s'});
    return $session;
}

# Begins statements in the session and waits until one of them waits for a lock.
sub begin_waiting {
    my ($session, $statements) = @_;
    my $pid = $session->query_safe('SELECT pg_backend_pid()');
    $session->query_until(qr/begun/, "\\echo begun\n$statements;\n");
    await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
    return $pid;
}

# What the session says once what it had begun is over.
sub finish {
    my ($session, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($session->query('SELECT 1'), '1', "$title: the session gets its locks");
    $session->query('COMMIT');
    return;
}

sub check_done {
    my ($job, $title, $rows) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT v) FROM t WHERE v = 'new'}), $rows ? "$rows|1" : '0|0', "$title: every row");
    is($node->safe_psql('postgres', "SELECT string_agg(attempts::text, ' ') FROM backfill_progress WHERE job = $job AND attempts - rebuilds <> 1"),
        '', "$title: what was given up is no attempt");
    check_clean($node, $title);
    return;
}

#
# Whoever holds the target and waits for the source
#
my $default = q{ALTER v SET DEFAULT 'd'};
for my $kind (
    [ 'ALTER of target and source', "ALTER TABLE t $default", "ALTER TABLE raw $default", 100 ],
    [ 'ALTER of partition and source', "ALTER TABLE t_1 $default", "ALTER TABLE raw $default", 100 ],
    [ 'TRUNCATE of both', '', 'TRUNCATE t, raw', 0 ],
    [ 'LOCK TABLE', 'LOCK TABLE t_1', 'LOCK TABLE raw', 100 ]) {
    my ($title, $first, $second, $rows) = @$kind;
    my $job = start_held();
    my $migration = migration();
    $migration->query_safe("BEGIN; $first");
    my $pid = begin_waiting($migration, $second);
    open_gate($holder, 1);
    await_partition($node, $job, 1, "state IN ('pending', 'running') AND waiting_on = 'lock (held by $pid)'");
    finish($migration, $title);
    $migration->quit;
    check_done($job, $title, $rows);
}
for my $kind (
    [ 'ALTER of source and target', "ALTER TABLE raw $default; ALTER TABLE t $default", 100 ],
    [ 'TRUNCATE of source and target', 'TRUNCATE raw; TRUNCATE t', 0 ]) {
    my ($title, $statements, $rows) = @$kind;
    my $job = start_held();
    my $migration = migration();
    begin_waiting($migration, "BEGIN; $statements");
    open_gate($holder, 1);
    finish($migration, $title);
    $migration->quit;
    check_done($job, $title, $rows);
}
{
    my $title = 'a chain through a third session';
    my $job = start_held();
    my $migration = migration();
    my $third = migration();
    $migration->query_safe('BEGIN; LOCK TABLE t_1');
    $third->query_safe('BEGIN; LOCK TABLE other');
    begin_waiting($third, 'LOCK TABLE raw');
    begin_waiting($migration, 'LOCK TABLE other');
    open_gate($holder, 1);
    finish($third, "$title: the third");
    finish($migration, $title);
    $_->quit for $third, $migration;
    check_done($job, $title, 100);
}
{
    my $title = 'writers are held';
    my $job = start_held(q{, on_write => 'block'});
    my $migration = migration();
    $migration->query_safe('BEGIN; SELECT count(*) FROM t');
    begin_waiting($migration, 'LOCK TABLE raw');
    open_gate($holder, 1);
    finish($migration, $title);
    $migration->quit;
    check_done($job, $title, 100);
}
{
    # One that would stand in the source's queue by then would let the server cancel the other.
    my $title = 'writers are held, and the source is locked';
    my $job = start_held(q{, on_write => 'block'});
    my $migration = migration();
    begin_waiting($migration, 'BEGIN; LOCK TABLE raw');
    open_gate($holder, 1);
    await_partition($node, $job, 2, 'waiting_on IS NOT NULL');
    $migration->query_safe('LOCK TABLE t');
    finish($migration, $title);
    $migration->quit;
    check_done($job, $title, 100);
}
{
    # The server finds this one, and cancels the build.
    my $title = 'a deadlock over what the source reads';
    my $job = start_held('', 'SELECT k, v FROM raw WHERE pass_gate(1) AND others() IS NOT NULL');
    my $migration = migration();
    $migration->query_safe('BEGIN; LOCK TABLE other');
    begin_waiting($migration, 'LOCK TABLE raw');
    open_gate($holder, 1);
    finish($migration, $title);
    $migration->quit;
    check_done($job, $title, 100);
}

#
# A holder that waits for nobody
#
{
    my $title = 'a source that is locked';
    my $job = start_held();
    my $migration = migration();
    my $pid = begin_waiting($migration, 'BEGIN; LOCK TABLE raw');
    open_gate($holder, 1);
    await_partition($node, $job, 2, qq{state = 'running' AND waiting_on = 'lock (held by $pid)'});
    pass("$title: the build says for whom it waits");
    $migration->query_safe('COMMIT');
    $migration->quit;
    check_done($job, $title, 100);
}
{
    my $title = 'a prepared transaction';
    my $job = start_held();
    $node->safe_psql('postgres', q{BEGIN; LOCK TABLE t_1; PREPARE TRANSACTION 'p'});
    open_gate($holder, 1);
    await_partition($node, $job, 1, q{state = 'running' AND phase = 'validating' AND waiting_on = 'lock (held by prepared transaction "p")'});
    my $migration = migration();
    begin_waiting($migration, 'BEGIN; LOCK TABLE raw');
    finish($migration, "$title: another session waits for the build");
    $migration->quit;
    await_partition($node, $job, 1, q{state = 'pending' AND waiting_on = 'lock (held by prepared transaction "p")'});
    $node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
    check_done($job, $title, 100);
}
{
    my $title = 'swap_patience';
    make_table();
    set_point($node, 'loading/1 stop'); # a gate is a lock, too, which is waited for no longer than that
    my $job = start_job($node, "'t', 'SELECT k, v FROM raw', $options, swap_patience => '500 ms'");
    await_point($node, $job, 'loading');
    my $before = fingerprint($node, 't_1');
    my $migration = migration();
    $migration->query_safe('BEGIN; LOCK TABLE t_1');
    clear_point($node);
    await_partition($node, $job, 1, q{state = 'failed'});
    like($node->safe_psql('postgres', "SELECT sqlstate || ' ' || error FROM backfill_progress WHERE job = $job AND ordinal = 1"),
        qr/^55P03 could not lock partition "public.t_1"\n.*for longer than swap_patience/, "$title: the partition fails in the end");
    $migration->query_safe('COMMIT');
    $migration->quit;
    is(wait_job($node, $job), 'failed', "$title: so does the job");
    is(fingerprint($node, 't_1'), $before, "$title: the partition is untouched");
    check_clean($node, $title);
}

$holder->quit;

#
# At any moment: BACKFILL_ROUNDS says how often
#
my @migrations = (
    "ALTER TABLE t $default; ALTER TABLE raw $default", "ALTER TABLE raw $default; ALTER TABLE t $default",
    'TRUNCATE t, raw', 'TRUNCATE raw, t', 'LOCK TABLE t_1, raw', 'SELECT count(*) FROM t; LOCK TABLE raw');
for my $round (1 .. $ENV{BACKFILL_ROUNDS} // 4) {
    make_table();
    my $on_write = $round % 2 ? 'rebuild' : 'block';
    my $job = start_job($node, qq{'t', 'WITH slept AS MATERIALIZED (SELECT pg_sleep(0.05)) SELECT k, v FROM raw, slept', $options, on_write => '$on_write'});
    for my $statements (@migrations[ map { int rand @migrations } 1 .. 2 ]) {
        usleep(rand 100_000);
        is((error_of($node, "SET lock_timeout = '20 s'; BEGIN; $statements; COMMIT"))[0], 'none', "round $round, $on_write: $statements");
    }
    is(wait_job($node, $job), 'done', "round $round: the job is done");
    check_clean($node, "round $round");
}

$node->stop;
done_testing();
