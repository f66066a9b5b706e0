# A partition whose concurrent detach waits for somebody is none of the job's any more.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('detaching');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
    INSERT INTO t SELECT generate_series(0, 19);
SQL
my $reader = session($node);
$reader->query_safe('BEGIN; SELECT count(*) FROM t');
my $detacher = session($node);
$detacher->query_until(qr/begun/, "\\echo begun\nALTER TABLE t DETACH PARTITION t_2 CONCURRENTLY;\n");
await($node, "SELECT count(*) = 1 FROM pg_inherits WHERE inhdetachpending");
is($node->safe_psql('postgres', "SELECT string_agg(partition || ' ' || action, ', ') FROM backfill_plan('t', 't')"), 't_1 rebuild',
    'the plan leaves it out');
my ($code, $out, $error) = $node->psql('postgres', "SELECT backfill_start('t', 't', partitions => '{t_2}')");
like($error, qr/"public.t_2" is not a partition of "t"/, 'it cannot be asked for by name');
$reader->quit;
await($node, "SELECT count(*) = 1 FROM pg_inherits");
$detacher->quit;
$node->stop;
done_testing();
