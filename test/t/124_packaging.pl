# What docs/installation.md says to do in a database, in its order: its SQL blocks, with a job between them.
use strict;
use warnings;

use Backfill;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $document = slurp_file("$FindBin::RealBin/../../docs/installation.md");
my @blocks = $document =~ /^```sql\n(.*?)^```/gms;
is(scalar(@blocks), 2, 'two blocks: in a database, and removing it');

my $node = new_node('installed');
$node->safe_psql('postgres', 'DROP EXTENSION partbackfill; CREATE ROLE data_engineers');
$node->safe_psql('postgres', $blocks[0]);
is($node->safe_psql('postgres', "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'partbackfill'"), 'backfill', 'it is installed');

my $path = 'SET search_path = backfill, public; ';
$node->safe_psql('postgres', <<"SQL");
    $path
    CREATE ROLE owner LOGIN IN ROLE data_engineers;
    GRANT CREATE ON SCHEMA public TO owner;
    CREATE TABLE public.t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE public.t_0 PARTITION OF public.t FOR VALUES FROM (0) TO (100);
    CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (100) TO (200);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199) AS k;
    ALTER TABLE t OWNER TO owner;
    ALTER TABLE t_0 OWNER TO owner;
    ALTER TABLE t_1 OWNER TO owner;
SQL
is($node->safe_psql('postgres', "SET ROLE owner; $path SELECT backfill_start('t', 'SELECT k, v || ''+'' AS v FROM t', delay => '0')"), '1',
    'a role with USAGE on the schema starts a job');
is($node->safe_psql('postgres', "$path SELECT backfill_wait(1, '180 s')"), 'done', 'it is done');
is($node->safe_psql('postgres', "$path SELECT backfill_start('t', 'SELECT k, (k / 0)::text AS v FROM t', delay => '0', max_attempts => 1)"), '2',
    'one that fails');
is($node->safe_psql('postgres', "$path SELECT backfill_wait(2, '180 s')"), 'failed', 'it has failed');
is($node->safe_psql('postgres', "$path SELECT backfill_start('t', 'SELECT k, v FROM t', delay => '1 hour')"), '3', 'one that runs');

# The update's statement is for jobs that run.
my ($pause) = $document =~ /`(SELECT backfill_pause\(job\)[^`]*)`/;
is($node->safe_psql('postgres', "$path $pause"), 't', 'what runs is paused');
is($node->safe_psql('postgres', "$path SELECT backfill_wait(3, '180 s')"), 'paused', 'it is');

isnt((error_of($node, 'DROP EXTENSION partbackfill'))[0], 'none', 'the extension is not dropped while a job is unfinished');
my ($code, $out, $error) = $node->psql('postgres', "$path $blocks[1]", extra_params => [ '-v', 'ON_ERROR_STOP=1' ]);
is("$code $error", '0 ', 'removing it: no error');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'partbackfill'"), '0', 'removing it: it is gone');
is($node->safe_psql('postgres', 'SELECT v, count(*) FROM t GROUP BY 1'), 'old+|200', 'removing it: the tables stay as they are');
is($node->safe_psql('postgres', <<'SQL'), '', 'removing it: nothing is left behind');
    SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE 'partbackfill%'
SQL

$node->stop;
done_testing();
