# The extension dropped under a job: refused, whoever drops it, by whatever statement; and where a superuser has switched
# that off, nothing of the job stays on live tables, and its workers leave.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dropped_extension');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    DROP EXTENSION partbackfill;
    CREATE ROLE schema_owner;
    CREATE SCHEMA tools AUTHORIZATION schema_owner;
    CREATE EXTENSION partbackfill SCHEMA tools;
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_rest PARTITION OF t DEFAULT;
    -- Large enough to need a proof that it holds none of the partition's rows.
    INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(0, 9999) AS g;
SQL

close_gate($holder, 1);
my $job = $node->safe_psql('postgres', <<'SQL');
    SELECT tools.backfill_start('t', 'SELECT k, ''new''::text AS v FROM t_1 WHERE pass_gate(1)', partitions => '{t_1}', delay => '0')
SQL
await_at_gate($node, 1);

for my $drop ('DROP EXTENSION partbackfill CASCADE', 'DROP SCHEMA tools CASCADE',
    # 1.0 looked at the extension's owner alone, and was dropped.
    'SET ROLE schema_owner; DROP OWNED BY schema_owner CASCADE', 'SET ROLE schema_owner; DROP OWNED BY CURRENT_USER CASCADE',
    'DROP OWNED BY SESSION_USER, schema_owner CASCADE') {
    my ($code, $message) = error_of($node, $drop);
    is($code, '55006', "$drop: refused");
    like($message, qr/^cannot drop extension "partbackfill" because backfill job $job is unfinished/, "$drop: says why");
}

# What the built partition waits for before its swap has the parent alone.
my $reader = session($node);
$reader->query_safe('BEGIN; LOCK TABLE ONLY t IN ACCESS SHARE MODE');
open_gate($holder, 1);
await($node, "SELECT count(*) = 1 FROM pg_constraint WHERE conrelid = 't_rest'::regclass AND conname LIKE 'partbackfill%' AND convalidated");
is($node->safe_psql('postgres', "SELECT count(*) > 0 FROM pg_trigger WHERE tgrelid = 't_1'::regclass AND tgname LIKE 'partbackfill%'"), 't', 'the partition is guarded');

my $place = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER EVENT TRIGGER backfill_refuse_drop DISABLE');
$node->safe_psql('postgres', 'DROP SCHEMA tools CASCADE');
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'partbackfill%'");
pass('the workers leave');
# 1.0 left the CHECK on the DEFAULT partition, which nobody would have dropped.
is($node->safe_psql('postgres', "SELECT string_agg(conname, ' ') FROM pg_constraint WHERE conname LIKE 'partbackfill%' AND conrelid::regclass::text LIKE 't%'"), '', 'no CHECK stays');
is($node->safe_psql('postgres', "SELECT string_agg(tgname, ' ') FROM pg_trigger WHERE tgname LIKE 'partbackfill%'"), '', 'no trigger stays');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), '0', 'no lock stays');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT k) FROM t'), '10000|10000', 'all rows are there');
unlike(slurp_file($node->logfile, $place), qr/PANIC|was terminated by signal/, 'nothing crashed');
$node->safe_psql('postgres', 'DROP OWNED BY schema_owner; CREATE EXTENSION partbackfill');
pass('it can be installed again');

$_->quit for $reader, $holder;
$node->stop;
done_testing();
