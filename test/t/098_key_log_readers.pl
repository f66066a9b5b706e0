# A dump reads the key logs of a job, too, and keeps its locks on them for hours: no writer waits for it, no other partition
# either, and what cannot be dropped meanwhile says who is in the way. An old snapshot, which keeps what was used of a log from
# vacuum, keeps no partition from its swap.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('readers');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100000) TO (200000);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199, 2) AS k;
    INSERT INTO t SELECT k, 'old' FROM generate_series(100000, 100099) AS k;
SQL

sub stop_at {
    my ($where) = @_;
    $node->safe_psql('postgres', "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = '$where'; SELECT pg_reload_conf()");
    return;
}

# A job whose worker stands at that point of the first partition, and a session that reads its log as a dump does.
sub start_read {
    my ($point, $options) = @_;
    stop_at("$point/1 stop");
    my $job = start_job($node, "'t', 'SELECT k, upper(v) AS v FROM t', delay => '0', keep_old => false, on_write => 'catch_up'" . ($options // ''));
    await_worker($node, $job, "query LIKE '%injection point $point'");
    my $reader = session($node);
    my $log = "backfill_${job}_new.partbackfill_keys_" . $node->safe_psql('postgres', "SELECT 't_1'::regclass::oid");
    $reader->query_safe("BEGIN; LOCK TABLE ONLY t, ONLY t_1, $log IN ACCESS SHARE MODE");
    return ($job, $reader);
}

# A writer does not wait for whoever reads.
sub write_is_free {
    my ($title) = @_;
    is($node->psql('postgres', "SET statement_timeout = '20 s'; UPDATE t SET v = v || '.' WHERE k = 2"), 0, "$title: a writer does not wait");
    return;
}

{
    my $title = 'a job that is canceled';
    my ($job, $reader) = start_read('converged');
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    stop_at('');
    await($node, "SELECT waiting_on LIKE 'tidying up: lock (held by %' FROM backfill_progress WHERE job = $job AND ordinal = 1");
    write_is_free($title);
    $reader->query_safe('COMMIT');
    is(wait_job($node, $job), 'canceled', "$title: it ends once the reader has");
    check_clean($node, $title);
    $reader->quit;
}
{
    my $title = 'a partition that is swapped by storage';
    my ($job, $reader) = start_read('swapped', ", swap => 'storage'");
    stop_at('');
    await_partition($node, $job, 2, q{state = 'done'});
    is(states($node, $job), 'done done', "$title: the next one is done beside the reader");
    write_is_free($title);
    $reader->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: the job ends once the reader has");
    check_clean($node, $title);
    $reader->quit;
}
{
    my $title = 'an old snapshot';
    my $old = session($node);
    $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
    stop_at('built/1 stop');
    # So little time that a look at the whole log takes longer.
    my $job = start_job($node, q{'t', 'SELECT k, upper(v) AS v FROM t', delay => '0', keep_old => false, on_write => 'catch_up',}
            . q{ swap => 'storage', lock_timeout => '10 ms', partitions => ARRAY['t_1']::regclass[]});
    await_worker($node, $job, q{query LIKE '%injection point built'});
    $node->safe_psql('postgres', q{INSERT INTO t SELECT k, 'new' FROM generate_series(1000, 50000) AS k});
    $node->safe_psql('postgres', q{UPDATE t_1 SET v = v || '.'});
    my $expected = $node->safe_psql('postgres', 'SELECT sum(hashtext(k || upper(v))), count(*) FROM t_1');
    stop_at('');
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', 'SELECT sum(hashtext(k || v)), count(*) FROM t_1'), $expected, "$title: its rows are right");
    $old->query_safe('COMMIT');
    $old->quit;
    check_clean($node, $title);
}
$node->stop;
done_testing();
