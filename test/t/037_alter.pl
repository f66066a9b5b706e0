# A job that is altered while it runs: how many workers it has, and how fast they go.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('alter');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (300) TO (400);
    CREATE TABLE t_4 PARTITION OF t FOR VALUES FROM (400) TO (500);
    INSERT INTO t SELECT g, 'old' FROM generate_series(100, 499) AS g;
    CREATE TABLE new AS SELECT k, 'new' AS v FROM t;
SQL

sub one {
    my ($query) = @_;
    return $node->safe_psql('postgres', $query);
}

# A source that is held up from key $from on.
sub held_from { my ($from) = @_; return "SELECT * FROM new WHERE CASE WHEN k < $from THEN true ELSE pass_gate(1) END"; }

{
    my $title = 'workers while it runs';
    close_gate($holder, 1);
    my $job = start_job($node, q{'t', '} . held_from(100) . q{', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    my $waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted";
    one("SELECT backfill_alter($job, workers => 3)");
    await($node, $waiting, '3');
    is(one("SELECT workers FROM backfill_status WHERE job = $job"), '3', "$title: more of them");
    one("SELECT backfill_alter($job, workers => 1)");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: done by fewer");
    is(one(q{SELECT count(*) FROM t WHERE v = 'new'}), '400', "$title: all rows are new");
    check_clean($node, $title);

    close_gate($holder, 1);
    $job = start_job($node, q{'t', '} . held_from(200) . q{', workers => 2, delay => '0', keep_old => false});
    await($node, $waiting, '2');
    one("SELECT backfill_alter($job, workers => 1)");
    my @pids = split /\n/, one("SELECT pid FROM pg_stat_activity WHERE backend_type = 'partbackfill worker' ORDER BY pid");
    is(scalar(@pids), 2, "$title: a partition in hand is not given up");
    $node->safe_psql('postgres', "SELECT pg_cancel_backend($pids[0]), pg_cancel_backend($pids[1])");
    await($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'", '1');
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the surplus leaves");
    check_clean($node, $title);
}
{
    my $title = 'the delay while it runs';
    my $job = start_job($node, q{'t', 'new', delay => '1 hour', keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    await_worker($node, $job, "state = 'idle'");
    one("SELECT backfill_alter($job, delay => '0')");
    is(wait_job($node, $job), 'done', "$title: a sleep is ended");
    check_clean($node, $title);
    my ($code) = error_of($node, "SELECT backfill_alter($job, delay => '0')");
    is($code, '55000', "$title: an ended job has nothing to alter");
}
{
    my $title = 'the pace in the middle of a load';
    # Without the change it would take a hundred hours.
    my $job = start_job($node,
        q{'t', 'SELECT k, v FROM (SELECT k, repeat(md5(k::text), 300) || pg_sleep(0.002) AS v FROM new) AS s', delay => '0', nice_ratio => 1000,}
            . q{ max_replica_lag => '1 hour', min_free_disk => '1MB', keep_old => false});
    await_partition($node, $job, 1, "phase = 'loading' AND waiting_on = 'nice_ratio 1000'");
    one("SELECT backfill_alter($job, nice_ratio => 0, max_wal_rate => '1GB', max_replica_lag => '0', min_free_disk => '')");
    is(one('SELECT nice_ratio, max_wal_rate, max_replica_lag IS NULL, num_nulls(min_free_disk_bytes, min_free_disk_ratio) = 2, lock_timeout, swap_patience'
                . " FROM backfill_job WHERE job = $job"), '0|1073741824|t|t|00:00:00.1|01:00:00', "$title: what is given is set, and cleared");
    is(wait_job($node, $job), 'done', "$title: the worker obeys");
    check_clean($node, $title);
    my ($code) = error_of($node, "SELECT backfill_alter($job, nice_ratio => -1)");
    is($code, '55000', "$title: it has ended");
}

$holder->quit;
$node->stop;
done_testing();
