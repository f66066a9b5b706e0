# The CHECK by which a large DEFAULT partition proves that it has no row of a partition that comes in is the job's, and
# goes with it: it is not copied when the DEFAULT itself is rebuilt, is made anew on the new one where it is still needed,
# keeps no name from a CHECK of somebody else, and is no change of the DEFAULT's definition. A job rests only once a look
# at the catalogs finds nothing of it.
#
# BACKFILL_ROUNDS: how many rounds of random timing, by either method.
use strict;
use warnings;

use Backfill;
use Test::More;
use Time::HiRes 'usleep';

my $node = new_node('default_check', settings => ['deadlock_timeout = 100ms']);
$node->safe_psql('postgres', <<'SQL');
    -- The table of all tests, with a DEFAULT that is too large to be scanned under a lock.
    CREATE PROCEDURE make_table() LANGUAGE plpgsql AS $$
    BEGIN
        DROP TABLE IF EXISTS t, removed;
        CREATE TABLE t (k int NOT NULL, v text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        INSERT INTO t SELECT g, 'x' FROM generate_series(0, 19) AS g;
        INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1000, 2000) AS g;
        CREATE TABLE removed (k int);
    END
    $$;
SQL

# Whether the DEFAULT takes rows of every range once the partition that had it is gone.
sub check_default_takes_rows {
    my ($title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($code) = error_of($node,
        'BEGIN; DROP TABLE t_1, t_2; INSERT INTO t VALUES (5), (15); ROLLBACK');
    return is($code, 'none', "$title: the DEFAULT takes rows of every range");
}

sub proofs {
    my ($relation) = @_;
    return $node->safe_psql('postgres',
        "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'partbackfill\\_%' AND conrelid = '$relation'::regclass");
}

# A partition waits for its swap with its proof made, and the DEFAULT is rebuilt meanwhile.
$node->safe_psql('postgres', 'CALL make_table()');
my $reader = session($node);
$reader->query_safe('BEGIN; SELECT count(*) FROM ONLY t_1');
my $job = start_job($node, "'t', 't', swap => 'attach', delay => '0', keep_old => true");
await_partition($node, $job, 3, "state IN ('done', 'failed')");
await_partition($node, $job, 1, "state = 'failed' OR swap_attempts > 3");
is(states($node, $job), 'ready done done', 'the DEFAULT is rebuilt while a partition waits for its swap');
is($node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $job AND ordinal = 3"), 0,
    'once: proofs that come and go are no change of its definition');
is(proofs('t_rest'), 1, 'its proof is made anew on the new DEFAULT');
is(proofs("backfill_${job}_old.t_rest"), 0, 'no proof is on the old DEFAULT');
$reader->query_safe('COMMIT');
is(wait_job($node, $job), 'done', 'the partition is swapped once its reader has gone');
is($node->safe_psql('postgres', "SELECT sum(rebuilds) FROM backfill_progress WHERE job = $job"), 0, 'as it was built');
is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), 3, 'purged');
check_clean($node, 'DEFAULT rebuilt while a partition waited');
check_default_takes_rows('done');

# The same, and it is canceled.
$reader->query_safe('BEGIN; SELECT count(*) FROM ONLY t_1');
$job = start_job($node, "'t', 't', swap => 'attach', delay => '0', keep_old => false");
await_partition($node, $job, 3, "state IN ('done', 'failed')");
await($node, q{SELECT count(*) = 1 FROM pg_constraint WHERE conname LIKE 'partbackfill\_%' AND conrelid = 't_rest'::regclass});
cancel_job($node, $job);
is(wait_job($node, $job), 'canceled', 'canceled');
check_clean($node, 'canceled after the DEFAULT was rebuilt');
$reader->query_safe('COMMIT');
check_default_takes_rows('canceled');

# A CHECK of the name that a proof would have is somebody else's: it stays, and keeps nothing from being swapped.
my $next = $job + 1;
$node->safe_psql('postgres', "ALTER TABLE t_rest ADD CONSTRAINT partbackfill_${next}_1 CHECK (v <> '') NOT VALID");
$job = start_job($node, "'t', 't', range_start => '0', range_end => '10', swap => 'attach', keep_old => false");
is($job, $next, 'the job that a CHECK seems to be of');
is(wait_job($node, $job), 'done', 'a CHECK of the name of a proof is in nobody\'s way');
is(proofs('t_rest'), 1, 'and stays');
$job = start_job($node, "'t', 't', partitions => '{t_rest}', swap => 'attach', keep_old => false");
is(wait_job($node, $job), 'done', 'the DEFAULT that has it is rebuilt');
is(proofs('t_rest'), 1, 'with it');
$node->safe_psql('postgres', "ALTER TABLE t_rest DROP CONSTRAINT partbackfill_${next}_1");

# A job that rests holds no CHECK on a live partition: it would reject rows once the partition it is for is dropped.
$reader->query_safe('BEGIN; SELECT count(*) FROM ONLY t_1');
$job = start_job($node, "'t', 't', range_start => '0', range_end => '10', swap => 'attach', keep_old => false");
await($node, q{SELECT count(*) = 1 FROM pg_constraint WHERE conname LIKE 'partbackfill\_%' AND conrelid = 't_rest'::regclass});
await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
$node->safe_psql('postgres', "SELECT backfill_pause($job)");
is(wait_job($node, $job), 'paused', 'paused while it waits for its swap');
is(proofs('t_rest'), 0, 'no CHECK is on the DEFAULT while it rests');
is($node->safe_psql('postgres', "SELECT backfill_resume($job)"), 1, 'resumed');
await_partition($node, $job, 1, 'swap_attempts > 0');
$reader->query_safe('COMMIT');
is(wait_job($node, $job), 'done', 'swapped without another build');
is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job"), 1, 'in its first attempt');
check_clean($node, 'paused and resumed');

# Readers and what people do to a job, at random moments.
my $rounds = $ENV{BACKFILL_ROUNDS} // 2;
my @readers = ('SELECT count(*) FROM ONLY t_1', 'SELECT count(*) FROM ONLY t_2', 'SELECT count(*) FROM ONLY t_rest',
    'SELECT count(*) FROM t WHERE k = 15');
my ($stuck, $left, $rejected) = (0, 0, 0);
for my $round (1 .. $rounds) {
    for my $method (qw(attach storage)) {
        $node->safe_psql('postgres', 'CALL make_table()');
        $reader->query_safe('BEGIN; ' . $readers[ rand @readers ]);
        $job = start_job($node, "'t', 't', swap => '$method', delay => '0', keep_old => false, workers => "
                . (1 + int rand 2) . ", swap_patience => '" . int(rand 3) . " s'");
        usleep(rand 600_000);
        my $deed = int rand 4;
        $node->safe_psql('postgres', "SELECT backfill_pause($job)") if $deed == 0;
        cancel_job($node, $job) if $deed == 1;
        usleep(rand 300_000);
        $reader->query_safe('COMMIT');
        $node->safe_psql('postgres', "SELECT backfill_resume($job)") if $deed == 0;
        my $state = wait_job($node, $job);
        if ($state eq 'failed') { # of its patience
            $node->safe_psql('postgres', rand() < 0.5 ? "SELECT backfill_retry($job)" : "SELECT backfill_cancel($job)");
            $state = wait_job($node, $job);
        }
        if ($state !~ /^(done|canceled)$/) {
            $stuck++;
            diag("job $job ($method, $deed) is $state: "
                    . $node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"));
            cancel_job($node, $job);
        }
        my $lines = leftovers($node);
        if ($lines ne '') {
            $left++;
            diag("job $job ($method, $deed) left $lines");
        }
        my ($code) = error_of($node, 'BEGIN; DROP TABLE t_1, t_2; INSERT INTO t VALUES (5), (15); ROLLBACK');
        $rejected++ if $code ne 'none';
    }
}
is($stuck, 0, "no job is stuck after $rounds rounds");
is($left, 0, 'nothing is left behind');
is($rejected, 0, 'no row is rejected');

$reader->quit;
$node->stop;
done_testing();
