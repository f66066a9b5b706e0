# Whether a partition shrinks is counted in pieces, and between two of them nothing of the partition is locked: who
# wants it exclusively, and readers behind, wait for no more than a piece. A rewrite meanwhile begins the count anew.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('count_in_pieces');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100000) WITH (fillfactor = 10);
    INSERT INTO t SELECT g, repeat('x', 700) FROM generate_series(0, 7499) AS g;
    CREATE TABLE raw AS SELECT k, v FROM t WHERE k % 2 = 0;
SQL
is($node->safe_psql('postgres', q{SELECT pg_relation_size('t_1') / current_setting('block_size')::int > 3 * 2048}), 't', 'several pieces');

for my $method (qw(attach storage)) {
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = 'counting stop'");
    $node->reload;
    my $job = start_job($node, "'t', 'SELECT * FROM raw', swap => '$method', keep_old => false, delay => '0'");
    my $pid = await_worker($node, $job, "query LIKE '%injection point counting'");
    is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE pid = $pid AND relation = 't_1'::regclass"), 0,
        "$method: no lock on the partition between two pieces");
    my ($code) = error_of($node, q{SET lock_timeout = '2 s'; ALTER TABLE t_1 ALTER v SET STATISTICS 50; VACUUM FULL t_1});
    is($code, 'none', 'its definition can be changed, and its file');
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = ''");
    $node->reload;
    is(wait_job($node, $job), 'done', 'done: half of the rows are enough');
    check_clean($node, $method);
    $node->safe_psql('postgres', "TRUNCATE t; INSERT INTO t SELECT g, repeat('x', 700) FROM generate_series(0, 7499) AS g");
}

$node->stop;
done_testing();
