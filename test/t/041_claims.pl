# Claims: a row that is locked for a moment is no sign of a death, many workers get through many small partitions, and a
# pause reaches the claim that is committed at the same moment.
use strict;
use warnings;

use Backfill;
use Test::More;
use Time::HiRes qw(time usleep);

my $rounds = $ENV{BACKFILL_ROUNDS} // 5;

my $node = new_node('claims', settings => ["partbackfill.crash_pause = '30s'"]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', n, 10 * n, 10 * n + 10) FROM generate_series(0, 39) AS n \gexec
    INSERT INTO t SELECT k, 0 FROM generate_series(0, 399) AS k;
    CREATE VIEW source AS SELECT k, 1 AS v FROM t;
    CREATE VIEW deaths AS SELECT job, sum(orphaned) AS orphaned, max(attempts) AS attempts, count(*) FILTER (WHERE suspect) AS suspects
        FROM backfill_control GROUP BY job;
SQL

sub deaths {
    my ($job) = @_;
    return $node->safe_psql('postgres', "SELECT orphaned, attempts, suspects FROM deaths WHERE job = $job");
}

for my $method ('attach', 'storage') {
    my %took;
    for my $workers (2, 8, 2, 8) {
        my $begun = time;
        my $job = start_job($node, "'t', 'source', swap => '$method', workers => $workers, delay => '0', max_attempts => 1, keep_old => false");
        is(wait_job($node, $job), 'done', "$method: 40 small partitions, $workers workers: done");
        is(deaths($job), '0|1|0', "$method: 40 small partitions, $workers workers: nobody is thought to have died");
        $took{$workers} = time - $begun if !defined $took{$workers} || time - $begun < $took{$workers};
    }
    note(sprintf('%s: 40 partitions by 2 workers %.1f s, by 8 %.1f s', $method, $took{2}, $took{8}));
    # A death that is none costs 30 s.
    cmp_ok($took{8}, '<', 20, "$method: 8 workers are not held up");
}

# Rows that somebody has locked for a moment, again and again.
{
    my $title = 'rows that are locked for moments';
    my $job = start_job($node, q{'t', 'source', swap => 'storage', workers => 4, delay => '0', max_attempts => 1, keep_old => false});
    for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default) {
        $node->safe_psql('postgres', <<"SQL");
            BEGIN; SELECT count(*) FROM (SELECT FROM backfill_control WHERE job = $job FOR UPDATE SKIP LOCKED) AS c; SELECT pg_sleep(0.02); COMMIT;
            BEGIN; SELECT count(*) FROM (SELECT FROM backfill_job WHERE job = $job FOR UPDATE) AS j; SELECT pg_sleep(0.02); COMMIT;
SQL
        last if $node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job") ne 'running';
    }
    is(wait_job($node, $job), 'done', "$title: done");
    is(deaths($job), '0|1|0', "$title: nobody is thought to have died");
}

# Pauses at random moments, half of them by transactions whose snapshot is older.
for my $round (1 .. $rounds) {
    my $method = $round % 2 ? 'attach' : 'storage';
    my $level = $round % 4 < 2 ? 'READ COMMITTED' : 'REPEATABLE READ';
    my $title = "round $round: a pause, $method, $level";
    my $job = start_job($node, "'t', 'source', swap => '$method', workers => 2, nice_ratio => 1, delay => '0', max_attempts => 1, keep_old => false");
    my $pauser = session($node);
    $pauser->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM backfill_status");
    usleep(rand(300_000));
    my $paused = $pauser->query("SELECT backfill_pause($job)");
    my $committed = $pauser->query('COMMIT');
    $pauser->quit;
    if ($paused !~ /t/) { # it had ended, or the snapshot was too old to change the job
        $node->safe_psql('postgres', "SELECT backfill_pause($job)");
    }
    my $state = wait_job($node, $job);
    like($state, qr/^(paused|done)$/, "$title: the job rests");
    is($node->safe_psql('postgres', "SELECT count(*) FROM backfill_control WHERE job = $job AND state = 'running'"), '0',
        "$title: no partition is in anybody's hands");
    if ($state eq 'paused') {
        $node->safe_psql('postgres', "SELECT backfill_resume($job)");
        is(wait_job($node, $job), 'done', "$title: it goes on to its end");
    }
    is(deaths($job), '0|1|0', "$title: nobody is thought to have died");
    check_clean($node, $title);
}

$node->stop;
done_testing();
