# Faults at random moments, a few in each job: it ends finished or canceled, with exactly the right data and nothing left
# behind. BACKFILL_FAULT_ROUNDS jobs (make stress does more of them); BACKFILL_FAULT_SEED repeats a run.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $rounds = $ENV{BACKFILL_FAULT_ROUNDS} // 8;
my $seed = $ENV{BACKFILL_FAULT_SEED} // time;
srand $seed;
diag("seed $seed");

my $node = new_node('random', settings => [
        "partbackfill.crash_pause = '50ms'", 'restart_after_crash = on', "shared_preload_libraries = 'partbackfill'" ]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE source (k int, v text);
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', n, n * 1000, (n + 1) * 1000)
    FROM generate_series(1, 6) AS n
    \gexec
    CREATE TABLE t_rest PARTITION OF t DEFAULT;
    CREATE INDEX ON t (v);
    INSERT INTO t SELECT k, 'new 0' FROM generate_series(1000, 6999) AS k;
    INSERT INTO t SELECT k, repeat('x', 100) FROM generate_series(10000, 17000) AS k;
SQL

# A worker of the job, if there is one now.
sub a_worker {
    my ($job) = @_;
    return $node->safe_psql('postgres',
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'partbackfill worker' AND query LIKE 'backfill job $job%' ORDER BY random() LIMIT 1");
}

# Each returns true when it ended the job.
my %faults = (
    'a killed worker' => sub { my ($job) = @_; my $pid = a_worker($job); kill_worker($node, $pid) if $pid; return; },
    'a terminated worker' => sub {
        my ($job) = @_;
        my $pid = a_worker($job);
        $node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid;
        return;
    },
    'a canceled statement' => sub {
        my ($job) = @_;
        my $pid = a_worker($job);
        $node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)") if $pid;
        return;
    },
    'an immediate stop' => sub { $node->stop('immediate'); $node->start; return; },
    'a killed postmaster' => sub { kill_postmaster($node); return; },
    'a restart' => sub { $node->restart; return; },
    'a pause' => sub {
        my ($job) = @_;
        $node->safe_psql('postgres', "SELECT backfill_pause($job)");
        usleep(rand(100_000));
        $node->safe_psql('postgres', "SELECT backfill_resume($job)");
        return;
    },
    'a cancel' => sub { my ($job) = @_; return $node->safe_psql('postgres', "SELECT backfill_cancel($job)") eq 't'; });

for my $round (1 .. $rounds) {
    my $new = "new $round";
    my $swap = rand() < 0.5 ? 'attach' : 'storage';
    my $workers = 1 + int(rand(3));
    my $publish = rand() < 0.6 ? 'each' : 'together';
    $node->safe_psql('postgres', "TRUNCATE source; INSERT INTO source SELECT k, '$new' FROM generate_series(1000, 6999) AS k");
    my $old = $node->safe_psql('postgres', 'SELECT DISTINCT v FROM t WHERE k < 10000');
    my $job = start_job($node, "'t', 'SELECT k, v FROM source WHERE CASE WHEN k % 100 = 0 THEN pg_sleep(0.001) IS NOT NULL ELSE true END', range_start => '1000', range_end => '7000',"
            . " swap => '$swap', publish => '$publish', workers => $workers, delay => '10 ms', keep_old => false, max_attempts => 100");
    my @struck;
    for (1 .. 1 + int(rand(3))) {
        usleep(rand(600_000));
        my $name = (sort keys %faults)[ int(rand(keys %faults)) ];
        push @struck, $name;
        last if $faults{$name}->($job);
    }
    my $title = "round $round, $swap, $publish, $workers worker(s), " . join(', then ', @struck);
    my $state = wait_job($node, $job);
    like($state, qr/^(?:done|canceled)$/, "$title: the job has ended")
        or diag($node->safe_psql('postgres', "SELECT state, error FROM backfill_status WHERE job = $job; SELECT ordinal, state, attempts, error FROM backfill_progress WHERE job = $job"));
    is($node->safe_psql('postgres', <<"SQL"), '', "$title: the data are exactly right");
        SELECT p.ordinal, p.state, count(r.k), min(r.v), max(r.v)
        FROM backfill_progress AS p
        LEFT JOIN t AS r ON r.k >= 1000 * p.ordinal AND r.k < 1000 * (p.ordinal + 1)
        WHERE p.job = $job
        GROUP BY p.ordinal, p.state
        HAVING count(r.k) <> 1000 OR min(r.v) <> max(r.v)
            OR min(r.v) <> CASE p.state WHEN 'done' THEN '$new' WHEN 'canceled' THEN '$old' ELSE p.state END;
        SELECT 'an index has lost rows' WHERE (SELECT count(*) FROM t WHERE v = '$new')
            <> (SELECT 1000 * count(*) FROM backfill_progress WHERE job = $job AND state = 'done');
        SELECT 'the rest has changed' WHERE (SELECT count(*) FROM t_rest) <> 7001;
SQL
    like($node->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM backfill_progress WHERE job = $job"), qr/^\w+$/, "$title: all or nothing")
        if $publish eq 'together';
    check_clean($node, $title);
    $node->safe_psql('postgres', "UPDATE t SET v = '$new' WHERE k < 10000 AND v <> '$new'");
}
$node->stop;
done_testing();
