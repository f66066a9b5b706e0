# What others hold of a job's rows: a pause whose snapshot is older than a claim, and a row that a session has locked for
# long.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('locked_rows', settings => ["partbackfill.crash_pause = '30s'"]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    INSERT INTO t SELECT k, 0 FROM generate_series(0, 9) AS k;
    CREATE VIEW source AS SELECT k, 1 AS v FROM t;
SQL

sub set_fault {
    my ($fault) = @_;
    $node->safe_psql('postgres', "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = '$fault'");
    $node->reload;
    return;
}

# start_later($seconds, $arguments): a job whose partitions are taken up so much later.
sub start_later {
    my ($seconds, $arguments) = @_;
    return $node->safe_psql('postgres', <<"SQL");
        BEGIN;
        SELECT backfill_start($arguments, delay => '0', max_attempts => 1, keep_old => false) AS job \\gset
        UPDATE backfill_control SET not_before = clock_timestamp() + '$seconds s' WHERE job = :job;
        COMMIT;
        SELECT :job
SQL
}

for my $point ('loading', 'ready') {
    for my $method ('attach', 'storage') {
        my $title = "a pause with an older snapshot, at $point, $method";
        set_fault("$point stop");
        my $job = start_later(2, "'t', 'source', swap => '$method'");
        my $pauser = session($node);
        $pauser->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM backfill_status');
        is($node->safe_psql('postgres', "SELECT state FROM backfill_control WHERE job = $job"), 'pending', "$title: nothing is claimed");
        await($node, 'SELECT ' . ($point eq 'ready' ? "state = 'ready'" : 'shadow_oid IS NOT NULL') . " FROM backfill_control WHERE job = $job");
        $pauser->query_safe("SELECT backfill_pause($job); COMMIT");
        $pauser->quit;
        set_fault('');
        is(wait_job($node, $job), 'paused', "$title: the job is paused");
        is($node->safe_psql('postgres', "SELECT state, worker_pid IS NULL, claim IS NULL FROM backfill_control WHERE job = $job"),
            ($point eq 'ready' ? 'ready' : 'pending') . '|t|t', "$title: the partition is in no worker's hands");
        $node->safe_psql('postgres', "SELECT backfill_resume($job)");
        is(wait_job($node, $job), 'done', "$title: it goes on to its end");
        is($node->safe_psql('postgres', "SELECT orphaned, attempts FROM backfill_control WHERE job = $job"), '0|1', "$title: no worker is thought to have died");
    }
}

{
    my $title = 'a job that is paused with something built';
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    my $job = start_job($node, q{'t', 'source', delay => '0'});
    await_partition($node, $job, 1, "state = 'ready'");
    $node->safe_psql('postgres', "SELECT backfill_pause($job)");
    is(wait_job($node, $job), 'paused', "$title: it rests");
    my ($code, $out, $error) = $node->psql('postgres', "SELECT backfill_start('t', 'source')");
    like($error, qr/It is job $job, which is paused.*backfill_resume\($job\).*backfill_cancel\($job\)/s, "$title: another job on it is told what to do");
    $reader->quit;
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    is(wait_job($node, $job), 'canceled', "$title: it is canceled");
}

{
    my $title = 'a row that a session has locked';
    $node->safe_psql('postgres', 'CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20); INSERT INTO t SELECT k, 0 FROM generate_series(10, 19) AS k');
    my $job = start_later(2, q{'t', 'source', swap => 'storage', workers => 2});
    my $holder = session($node);
    $holder->query_safe("BEGIN; SELECT FROM backfill_control WHERE job = $job AND ordinal = 1 FOR UPDATE");
    await_partition($node, $job, 2, "state = 'done'");
    is(states($node, $job), 'pending done', "$title: other partitions go on");
    is($node->safe_psql('postgres', "SELECT backfill_pause($job)"), 't', "$title: the job can be paused");
    $holder->query_safe('COMMIT');
    $holder->quit;
    is(wait_job($node, $job), 'paused', "$title: it rests");
    $node->safe_psql('postgres', "SELECT backfill_resume($job)");
    is(wait_job($node, $job), 'done', "$title: it goes on to its end");
    is($node->safe_psql('postgres', "SELECT max(orphaned), max(attempts) FROM backfill_control WHERE job = $job"), '0|1', "$title: no worker is thought to have died");
}

$node->stop;
done_testing();
