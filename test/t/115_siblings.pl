# Workers of one job in each other's way: the source reads the whole table for each partition, as it must for HASH partitions, and so
# holds a lock on a partition that another worker is about to swap while it holds writers. The partition is tried again.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('siblings');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY HASH (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO t SELECT k, 'old' FROM generate_series(1, 20) AS k;
SQL
my ($first, $second) = map { session($node) } 1 .. 2;
close_gate($first, 1);
close_gate($second, 2);
set_point($node, 'claimed/2 stop');
my $job = start_job($node, q{'t', $$SELECT k, 'new' AS v FROM t WHERE pass_gate(CASE tableoid WHEN 't_1'::regclass THEN 1 ELSE 2 END)$$,
    workers => 2, swap => 'storage', delay => '0', keep_old => false});
await_point($node, $job, 'claimed');

# The first partition is written to in each build but the last, which holds writers.
for my $rebuilds (0 .. 2) {
    await_partition($node, $job, 1, "rebuilds = $rebuilds AND phase = 'loading'");
    await_at_gate($node, 1);
    $node->safe_psql('postgres', q{UPDATE t SET v = 'old' WHERE tableoid = 't_1'::regclass});
    $first->query_safe('SELECT pg_advisory_unlock(1); SELECT pg_advisory_lock(1)'); # which waits until the build has ended
}
await_partition($node, $job, 1, q{rebuilds = 3 AND phase = 'loading'});
await_at_gate($node, 1);
clear_point($node);
await_at_gate($node, 2); # the other build reads both partitions
open_gate($first, 1);
await_partition($node, $job, 1, q{waiting_on ~ '^lock \(held by \d+\)' AND phase IS NULL});
open_gate($second, 2);
is(wait_job($node, $job), 'done', 'the job is done');
is(figures($node, $job), 'done 4 3, done 1 0', 'no attempt has failed');
same_rows($node, 't', q{SELECT k, 'new' FROM generate_series(1, 20) AS k}, 'all rows are new');
check_clean($node, 'siblings');

$_->quit for $first, $second;
$node->stop;
done_testing();
