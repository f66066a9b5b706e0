# What a failed job keeps for a partition, its shadow and the triggers that watch for writes, and other jobs: no write is
# lost between them, and nothing of it piles up on the partition.
#
# BACKFILL_ROUNDS: how many rounds of random timing, by either method.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $node = new_node('kept_captures');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
    INSERT INTO t SELECT k, 0 FROM generate_series(0, 19) AS k;
    CREATE VIEW same AS SELECT k, v FROM t;
SQL

sub captures {
    return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 't_1'::regclass AND tgname LIKE 'partbackfill%'});
}

for my $method ('attach', 'storage') {
    # Built, and kept from its swap by a reader.
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    my $first = start_job($node, "'t', 'same', partitions => '{t_1}', swap => '$method', swap_patience => '0', delay => '0', keep_old => false");
    is(wait_job($node, $first), 'failed', "$method: a job fails for a lock");
    is(captures(), '2', "$method: it keeps its triggers on the partition");
    my ($code, $out, $error) = $node->psql('postgres', "SELECT backfill_start('t', 'same', swap => '$method')");
    like($error, qr/ERROR:  partition "t_1" is built by a job that failed.*Job $first keeps.*backfill_retry\($first\).*backfill_cancel\($first\)/s,
        "$method: another job on the partition is refused, with the way out");
    is(captures(), '2', "$method: nothing more is on the partition");
    $reader->query_safe('COMMIT');
    $reader->quit;

    # Others see that at the same time: the index decides, not who looks first.
    ($code, $out, $error) = $node->psql('postgres', <<"SQL");
        INSERT INTO backfill_control (job, ordinal, partition_oid, partition, partition_bound, rows_estimate)
        SELECT job, 100, partition_oid, partition, partition_bound, 0 FROM backfill_control WHERE job = $first
SQL
    like($error, qr/backfill_control_unfinished/, "$method: nor can a row be made for it");

    # What is written meanwhile is found by its retry.
    $node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE k = 5');
    is($node->safe_psql('postgres', "SELECT backfill_retry($first)"), '1', "$method: it is retried");
    is(wait_job($node, $first), 'done', "$method: and done");
    is($node->safe_psql('postgres', "SELECT v, (SELECT rebuilds FROM backfill_progress WHERE job = $first) FROM t WHERE k = 5"),
        $method eq 'attach' ? '1|1' : '2|1', "$method: with what was written");
    check_clean($node, $method);
}

# At any moment: jobs fail beside readers and writers, are retried or canceled and started anew, and every write is there.
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE tally (k int PRIMARY KEY, v int);
    -- An update of both, so that they are the same as long as none is lost.
    CREATE PROCEDURE write_both(which int) LANGUAGE sql AS 'UPDATE t SET v = v + 1 WHERE k = which; UPDATE tally SET v = v + 1 WHERE k = which';
SQL
my $writes = PostgreSQL::Test::Utils::tempdir() . '/writes.pgbench';
append_to_file($writes, "\\set which random(0, 19)\nBEGIN;\nCALL write_both(:which);\n\\sleep 1 ms\nCOMMIT;\n");
my $reads = PostgreSQL::Test::Utils::tempdir() . '/reads.pgbench';
append_to_file($reads, "\\set hold random(1, 60)\nBEGIN;\nSELECT count(*) FROM t;\n\\sleep :hold ms\nCOMMIT;\n");
for my $round (1 .. 2 * ($ENV{BACKFILL_ROUNDS} // 1)) {
    my $method = $round % 2 ? 'attach' : 'storage';
    my $title = "round $round, $method";
    $node->safe_psql('postgres', 'TRUNCATE tally; INSERT INTO tally SELECT k, v FROM t');
    my $clients = start_clients($node, 4, '-R', '100', '-f', "$writes\@3", '-f', "$reads\@1");
    my $arguments = "'t', 'WITH slept AS MATERIALIZED (SELECT pg_sleep(0.02)) SELECT k, v FROM t, slept', swap => '$method', swap_patience => '0', lock_timeout => '10 ms',"
        . ' delay => \'0\', keep_old => false';
    my $job = start_job($node, $arguments);
    for (1 .. 4) {
        usleep(rand 300_000);
        my $state = $node->safe_psql('postgres', "SELECT state FROM backfill_job WHERE job = $job");
        if ($state eq 'failed' && rand() < 0.5) {
            $node->safe_psql('postgres', "SELECT backfill_retry($job)");
        } elsif ($state eq 'failed' && rand() < 0.3) {
            # Refused, as long as the failed one keeps something.
            my ($code, $other) = $node->psql('postgres', "SELECT backfill_start($arguments)");
            $job = $other if $code == 0;
        } elsif ($state ne 'running') {
            cancel_job($node, $job) if $state eq 'failed';
            wait_job($node, $job);
            $job = start_job($node, $arguments);
        }
    }
    unlike(stop_clients($clients), qr/ERROR|aborted/, "$title: no statement fails");
    if (wait_job($node, $job) eq 'failed') {
        $node->safe_psql('postgres', "SELECT backfill_alter($job, swap_patience => '30 s'), backfill_retry($job)");
    }
    is(wait_job($node, $job), 'done', "$title: the job is done in the end");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t FULL JOIN tally USING (k) WHERE t.v IS DISTINCT FROM tally.v'), '0',
        "$title: every write is there");
    check_clean($node, $title);
}

# Two jobs' triggers on one table, as an older failed one leaves them beside what a later version would start: each gets
# its mark for each transaction, whatever savepoint the write was in.
{
    my $title = 'two jobs that watch one table';
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    my $first = start_job($node, q{'t', 'same', partitions => '{t_1}', swap_patience => '0', delay => '0', keep_old => false});
    is(wait_job($node, $first), 'failed', "$title: the first has failed");
    $reader->query_safe('COMMIT');
    $reader->quit;
    # As if it had been done before such jobs were refused.
    $node->safe_psql('postgres', 'DROP INDEX backfill_control_unfinished');
    $node->safe_psql('postgres', "UPDATE backfill_control SET partition_oid = 0 WHERE job = $first");
    my $holder = session($node);
    close_gate($holder, 1);
    my $second = start_job($node, q{'t', 'SELECT k, v FROM t WHERE k < 10 AND pass_gate(1)', partitions => '{t_1}', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    is(captures(), '4', "$title: both have their triggers");
    $node->safe_psql('postgres', <<'SQL');
        BEGIN;
        SAVEPOINT a;
        UPDATE t SET v = 10 WHERE k = 5;
        ROLLBACK TO a;
        UPDATE t SET v = 11 WHERE k = 5;
        SAVEPOINT b;
        UPDATE t SET v = 12 WHERE k = 6;
        RELEASE b;
        COMMIT;
SQL
    is($node->safe_psql('postgres', "SELECT string_agg(job || ':' || count, ' ' ORDER BY job) FROM (SELECT job, count(*) FROM backfill_write GROUP BY job) AS w"),
        "$first:1 $second:1", "$title: each has one mark of the transaction");
    open_gate($holder, 1);
    $holder->quit;
    is(wait_job($node, $second), 'done', "$title: the second is done");
    is($node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $second"), '1', "$title: it was built again");
    is($node->safe_psql('postgres', 'SELECT string_agg(v::text, $$ $$ ORDER BY k) FROM t WHERE k IN (5, 6)'), '11 12', "$title: no write is lost");
}

$node->stop;
done_testing();
