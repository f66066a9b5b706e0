# A dump has the extension but no jobs, since their tables have other OIDs where it is restored: what jobs have kept comes as
# ordinary tables in schemas of theirs, and new jobs take other numbers.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dumped');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 299) AS k;
    CREATE DATABASE restored;
SQL

# Done, built, pending: the last one's source waits at the gate.
my $reader = session($node);
$reader->query_safe('BEGIN; SELECT count(*) FROM ONLY t_1');
my $gate = session($node);
close_gate($gate, 7);
my $job = start_job($node, q{'t', 'SELECT k, v || ''+'' AS v FROM t WHERE k < 200 OR pass_gate(7)', delay => '0', swap => 'storage'});
await($node, "SELECT string_agg(state, ' ' ORDER BY ordinal) = 'done ready running' FROM backfill_progress WHERE job = $job");
$node->safe_psql('postgres', "SELECT backfill_pause($job)");
is(wait_job($node, $job), 'paused', 'a job is paused');
$_->quit for $reader, $gate;
my $identity = $node->safe_psql('postgres', 'SELECT backfill_installation()');

my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
my @server = ('-h', $node->host, '-p', $node->port);
command_ok([ 'pg_dump', @server, '-f', $dump, 'postgres' ], 'pg_dump runs');
command_ok([ 'psql', '-X', '-q', @server, '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ], 'it is restored without an error');

sub restored { return $node->safe_psql('restored', shift) }
is(restored('SELECT count(*) FROM backfill_job'), '0', 'no job comes along');
isnt(restored('SELECT backfill_installation()'), $identity, 'it is another installation');
is(restored('SELECT v, count(*) FROM t GROUP BY 1 ORDER BY 1'), "old|200\nold+|100", 'the table is as it was');
is(restored("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%'"), '0', 'no trigger comes along');
is(restored("SELECT v, count(*) FROM backfill_${job}_old.t_0 GROUP BY 1"), 'old|100', 'old rows that were kept come as an ordinary table');
is(restored("SELECT count(*) FROM backfill_${job}_new.t_1"), '100', 'so does what was built');

# A new job does not take the number of the old one, whose schemas are there.
my $new = restored(q{SELECT backfill_start('t', 'SELECT k, v || ''!'' AS v FROM t', delay => '0')});
cmp_ok($new, '>', $job, 'a new job has another number');
is(restored("SELECT backfill_wait($new, '180 s')"), 'done', 'it is done');
is(restored('SELECT v, count(*) FROM t GROUP BY 1 ORDER BY 1'), "old!|200\nold+!|100", 'its rows are right');
is(restored("SELECT backfill_purge($new)"), '3', 'what it has kept is dropped');
restored("DROP SCHEMA backfill_${job}_old, backfill_${job}_new CASCADE");
is(leftovers($node, 'restored'), '', 'nothing is left there');

# The job goes on where it was started.
is($node->safe_psql('postgres', "SELECT backfill_resume($job)"), '1', 'the job is resumed');
is(wait_job($node, $job), 'done', 'and done');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM t GROUP BY 1'), 'old+|300', 'with the right rows');
is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '3', 'what it has kept is dropped there');
check_clean($node, 'the job');

$node->stop;
done_testing();
