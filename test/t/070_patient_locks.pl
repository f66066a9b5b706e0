# A swap that waits for its locks lets the job be paused and canceled meanwhile, however long lock_timeout is. What a worker
# only looks at, between its steps, it does not stand in a queue for.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use Test::More;
use Time::HiRes 'time';

my $node = new_node('patient_locks');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 19) AS k;
SQL

for my $method ('storage', 'attach') {
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    my $job = start_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$method', delay => '0', keep_old => false, lock_timeout => '60 s'");
    for my $how ('pause', 'cancel') {
        await_worker($node, $job, "wait_event_type = 'Lock'");
        my $begun = time;
        is($node->safe_psql('postgres', "SELECT backfill_$how($job)"), 't', "$method: $how");
        cmp_ok(time - $begun, '<', 20, "$method: $how does not wait for what the swap waits for");
        $node->safe_psql('postgres', "SELECT backfill_resume($job)") if $how eq 'pause';
    }
    $reader->query_safe('COMMIT');
    $reader->quit;
    is(wait_job($node, $job), 'canceled', "$method: canceled");
    check_clean($node, $method);
}

# Tries go on, one after the other, and say for whom they wait.
sub check_goes_on {
    my ($job, $pid, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $tries = $node->safe_psql('postgres', "SELECT swap_attempts FROM backfill_progress WHERE job = $job") + 3;
    return ok(
        $node->poll_query_until('postgres', "SELECT swap_attempts >= $tries AND waiting_on LIKE '%(held by $pid)%' FROM backfill_progress WHERE job = $job"),
        "$title: the worker does not stand in a queue");
}

# How large the partition is
{
    set_point($node, 'claimed/1 stop');
    my $job = start_job($node, q{'t', 'SELECT k, ''new'' AS v FROM t', partitions => '{t_1}', delay => '0', keep_old => false, lock_timeout => '0'});
    await_point($node, $job, 'claimed');
    my $migration = session($node);
    my $pid = $migration->query_safe('SELECT pg_backend_pid()');
    $migration->query_safe('BEGIN; LOCK TABLE t_1');
    clear_point($node);
    check_goes_on($job, $pid, 'before a build');
    $migration->query_safe('COMMIT');
    $migration->quit;
    is(wait_job($node, $job), 'done', 'before a build: then the job is done');
}

# Whether a crash has emptied the shadow of an unlogged partition
{
    $node->safe_psql('postgres', 'ALTER TABLE t_1 SET UNLOGGED');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t_1');
    my $job = start_job($node, q{'t', 'SELECT k, ''newer'' AS v FROM t', partitions => '{t_1}', delay => '0', keep_old => false, lock_timeout => '0'});
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    my $owner = session($node);
    my $pid = $owner->query_safe('SELECT pg_backend_pid()');
    $owner->query_safe("BEGIN; LOCK TABLE backfill_${job}_new.t_1");
    $reader->query_safe('COMMIT');
    $reader->quit;
    check_goes_on($job, $pid, 'before a swap');
    $owner->query_safe('COMMIT');
    $owner->quit;
    is(wait_job($node, $job), 'done', 'before a swap: then the job is done');
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t_1 WHERE v = 'newer'}), '10', 'before a swap: every row');
}

$node->stop;
done_testing();
