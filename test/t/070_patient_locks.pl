# A swap that waits for its locks lets the job be paused and canceled meanwhile, however long lock_timeout is.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
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

$node->stop;
done_testing();
