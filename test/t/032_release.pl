# A cancel or a pause that comes while a worker is about to commit a step: whoever calls it waits for that moment, and
# what was committed counts.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('release');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE source (k int, v text);
    -- With a DEFAULT that a proof is made for.
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (300) TO (400);
    CREATE TABLE t_rest PARTITION OF t DEFAULT;
    INSERT INTO t SELECT k, repeat('x', 100) FROM generate_series(1000, 8000) AS k;
    INSERT INTO t SELECT k, 'new 0' FROM generate_series(100, 399) AS k;
SQL

sub set_fault {
    my ($fault) = @_;
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = '$fault'");
    $node->reload;
    await($node, "SELECT current_setting('partbackfill.injection_point') = '$fault'");
    return;
}

# What is to be done by the time that the job rests: at a swap that is about to commit, the partition is.
my %done = (created => 1, built => 1, validating => 1, swapping => 2, tidying => 2, ending => 3);
my $round = 0;
for my $step (sort keys %done) {
    for my $function ('backfill_cancel', 'backfill_pause') {
        my $title = "$function at $step";
        my $old = 'new ' . $round++;
        my $new = "new $round";
        $node->safe_psql('postgres', "TRUNCATE source; INSERT INTO source SELECT k, '$new' FROM generate_series(100, 399) AS k");
        set_fault($step eq 'ending' ? 'ending stop' : "$step/2 stop");
        my $job = start_job($node, q{'t', 'source', range_start => '100', range_end => '400', delay => '0', keep_old => false});
        await_worker($node, $job, "query LIKE '%waiting on injection point $step'");
        my $session = session($node);
        my $pid = $session->query_safe('SELECT pg_backend_pid()');
        $session->query_until(qr/begun/, "\\echo begun\nSELECT $function($job);\n");
        # After the swap there is no row to wait for.
        if ($step =~ /^(?:tidying|ending)$/) {
            await($node, "SELECT state <> 'running' FROM backfill_status WHERE job = $job");
        } else {
            await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
        }
        # Before the swap the worker may be at the row again before the caller, who waits for it: then it swaps.
        my $swaps = 0;
        if ($step =~ /^(?:created|built|validating)$/) {
            set_fault('swapping/2 stop');
            my $at_swap = "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'"
                . " AND query ~ '^backfill job $job\\M.*waiting on injection point swapping')";
            await($node, "SELECT $at_swap OR state <> 'running' FROM backfill_status WHERE job = $job");
            $swaps = $node->safe_psql('postgres', "SELECT $at_swap") eq 't';
        }
        set_fault('');
        my $state = wait_job($node, $job);
        $session->quit;
        is($state, $function eq 'backfill_cancel' ? 'canceled' : 'paused', "$title: the job rests");
        my $all = states($node, $job);
        my $count = () = $all =~ /done/g;
        is($count, $swaps ? $done{swapping} : $done{$step}, "$title: what was committed is done") or diag($all);
        is($node->safe_psql('postgres', <<"SQL"), '', "$title: each partition is as its state says");
            SELECT p.ordinal, p.state, count(r.k), min(r.v), max(r.v)
            FROM backfill_progress AS p LEFT JOIN t AS r ON r.k >= 100 * p.ordinal AND r.k < 100 * (p.ordinal + 1)
            WHERE p.job = $job
            GROUP BY p.ordinal, p.state
            HAVING count(r.k) <> 100 OR min(r.v) <> max(r.v) OR min(r.v) <> CASE p.state WHEN 'done' THEN '$new' ELSE '$old' END
SQL
        if ($state eq 'paused') {
            is($node->safe_psql('postgres', "SELECT backfill_resume($job)"), '1', "$title: resumed");
            is(wait_job($node, $job), 'done', "$title: and done");
        }
        check_clean($node, $title);
        # The next round has to find the same rows everywhere.
        $node->safe_psql('postgres', "UPDATE t SET v = '$new' WHERE k < 400 AND v <> '$new'");
    }
}
$node->stop;
done_testing();
