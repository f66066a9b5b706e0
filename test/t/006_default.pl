# A large DEFAULT partition beside a rebuilt one is not scanned under the swap's lock: a CHECK proves beforehand, while
# everybody reads and writes, that it holds no row of the partition that comes in.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('default_sibling', settings => ['log_min_messages = debug1']);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int NOT NULL, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
    CREATE TABLE t_rest PARTITION OF t DEFAULT;
    INSERT INTO t SELECT g, 'old' FROM generate_series(0, 19) AS g;
    INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1000, 21000) AS g;
    CREATE TABLE source AS SELECT g AS k, 'new' AS v FROM generate_series(0, 19) AS g;
SQL

my $implied = qr/updated partition constraint for default partition "t_rest" is implied by existing constraints/;
my $clean = "SELECT count(*) = 0 FROM pg_constraint WHERE conname LIKE 'partbackfill%'";

my $start = -s $node->logfile;
my $job = start_job($node, "'t', 'source', range_start => '0', range_end => '20', delay => '0'");
is(wait_job($node, $job), 'done', 'partitions beside a large DEFAULT are swapped');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $start);
my $times = () = $log =~ /$implied/g;
is($times, 2, 'the DEFAULT was scanned by neither swap');
is($node->safe_psql('postgres', $clean), 't', 'no proof is left');
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE v = 'new'"), 20, 'the new rows are there');

# A reader of the DEFAULT only: the proof has to wait, the job does not fail, and a cancel leaves nothing.
my $reader = session($node);
$reader->query_safe('BEGIN; SELECT count(*) FROM ONLY t_rest');
$job = start_job($node, "'t', 'source', range_start => '0', range_end => '10'");
await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0 AND waiting_on LIKE '%held by%'");
my ($canceled) = cancel_job($node, $job);
is($canceled, 't', 'a job whose proof waits for a lock is canceled');
is(wait_job($node, $job), 'canceled', 'and ends');
$job = start_job($node, "'t', 'source', range_start => '0', range_end => '10'");
await_partition($node, $job, 1, "swap_attempts > 0");
$reader->query_safe('COMMIT');
is(wait_job($node, $job), 'done', 'once the reader has gone the swap follows');
$reader->quit;
is($node->safe_psql('postgres', $clean), 't', 'no proof is left');

# Canceled between the proof and the swap: a reader of the parent keeps the swap out, not the proof.
$reader = session($node);
$reader->query_safe('BEGIN; SELECT count(*) FROM t WHERE k = 15'); # locks the parent and t_2
$job = start_job($node, "'t', 'source', range_start => '0', range_end => '10'");
await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
is($node->safe_psql('postgres', "SELECT bool_and(convalidated) FROM pg_constraint WHERE conname LIKE 'partbackfill%' AND conrelid = 't_rest'::regclass"),
    't', 'the proof is there and valid while the swap waits');
($canceled) = cancel_job($node, $job);
is(wait_job($node, $job), 'canceled', 'canceled');
is($node->safe_psql('postgres', $clean), 't', 'the proof of a partition that was not swapped goes too');
$reader->query_safe('COMMIT');
$reader->quit;

$node->stop;
done_testing();
