# Names that would be SQL if they stood in it unquoted. The schema of the extension gets them from the owner of the database,
# who is no superuser, after CREATE EXTENSION has refused the worst of them: 1.0 put the name inside a string literal of a
# statement that ran as the extension's owner, and ran what stood behind the quote as superuser.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('hostile_names');
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE landlord LOGIN;
    CREATE DATABASE house OWNER landlord;
SQL
$node->safe_psql('house', <<'SQL');
    CREATE SCHEMA plain AUTHORIZATION landlord;
    CREATE EXTENSION partbackfill SCHEMA plain;
    GRANT USAGE ON SCHEMA plain TO PUBLIC;
    CREATE SCHEMA evil AUTHORIZATION landlord;
    SET ROLE landlord;
    CREATE FUNCTION evil.f() RETURNS text LANGUAGE plpgsql AS $$
        BEGIN RAISE LOG 'a name ran as %', current_user; RETURN ''; END
    $$;
SQL

sub quoted {
    my ($name) = @_;
    return '"' . ($name =~ s/"/""/gr) . '"';
}

my @names = (
    q(x'||evil.f()||'), q(x\'||evil.f()||'), q(x"||evil.f()||"), q(x$$||evil.f()||$$), q(x$SQL$||evil.f()||$SQL$), 'x);SELECT evil.f();--',
    'x}{s}.{0}{}{{%s%1$I%L%%', qq(x\n\t/*), q(E'\\''||evil.f()||E'), 'Backfill "of" the $1', "\xc3\xa9" x 31 . "'", "x',evil.f())--");
my @settings = ('on');
push @settings, 'off' if ($node->psql('house', 'SET standard_conforming_strings = off'))[0] == 0;

# A whole job by each way, and all that can be asked and told of one.
# The table, its partition and its column are called like the schema.
sub run_jobs {
    my ($name, $standard) = @_;
    my $ext = quoted($name);
    my $title = ($name =~ s/[^ -~]/./gr) . ", standard_conforming_strings = $standard";
    my $warning = $standard eq 'off' ? 'SET escape_string_warning = off;' : ''; # a setting of versions that have both
    my $target = q{format('%I.%I', (SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tables %'), (SELECT relname FROM pg_class WHERE relkind = 'p' AND relname LIKE 'parent %'))};
    my ($schema, $table, $part, $column) = map { quoted("$_ $name") } qw(tables parent part column);
    $node->safe_psql('house', <<"SQL");
        SET ROLE landlord;
        CREATE SCHEMA $schema;
        CREATE TABLE $schema.$table (k int PRIMARY KEY, $column text) PARTITION BY RANGE (k);
        CREATE TABLE $schema.$part PARTITION OF $schema.$table FOR VALUES FROM (0) TO (10);
        CREATE TABLE $schema.other PARTITION OF $schema.$table DEFAULT;
        INSERT INTO $schema.$table SELECT k, 'old' FROM generate_series(0, 19) AS k;
        COMMENT ON COLUMN $schema.$part.$column IS 'x''||evil.f()||''';
SQL
    for my $method ('attach', 'storage') {
        my ($status, $out, $error) = $node->psql('house', <<"SQL", extra_params => [ '-v', 'ON_ERROR_STOP=1' ]);
            SET SESSION AUTHORIZATION landlord;
            SET standard_conforming_strings = $standard;
            $warning
            SELECT $target AS target, \$source\$SELECT k, 'new' AS $column FROM $schema.$table\$source\$ AS source \\gset
            SELECT count(*) FROM $ext.backfill_plan(:'target', :'source');
            SELECT $ext.backfill_start(:'target', :'source', delay => '1 hour', swap => '$method', throttle_query => 'SELECT false') AS job \\gset
            SELECT $ext.backfill_pause(:job);
            SELECT $ext.backfill_wait(:job);
            SELECT $ext.backfill_alter(:job, delay => '0', max_wal_rate => '1GB');
            SELECT $ext.backfill_resume(:job);
            SELECT $ext.backfill_wait(:job);
            SELECT $ext.backfill_retry(:job), $ext.backfill_cancel(:job);
            SELECT state, percent, waiting_on FROM $ext.backfill_status WHERE job = :job;
            SELECT string_agg(phase, ' '), count(*) FROM $ext.backfill_progress WHERE job = :job;
            SELECT $ext.backfill_purge(:job);
            SELECT DISTINCT $column FROM $schema.$table;
            SELECT $ext.backfill_start(:'target', :'source', delay => '0', swap => '$method', publish => 'manual', audits => ARRAY['SELECT FROM {shadow} WHERE false']) AS job \\gset
            SELECT $ext.backfill_wait(:job);
            SELECT count(*) FROM $ext.backfill_diff(:job);
            SELECT count(*) FROM $ext.backfill_diff_rows(:job, (SELECT min(inhrelid::oid) FROM pg_inherits WHERE inhparent = :'target'::regclass)::regclass);
            SELECT $ext.backfill_publish(:job);
            SELECT $ext.backfill_purge(:job);
SQL
        is($out, "2\nt\npaused\n\n1\ndone\n0|f\ndone|100.0|\n|2\n2\nnew\nready\n2\n0\n2\n2", "$title, by $method: a job from its start to its purge") or diag($error);
    }
    $node->safe_psql('house', "SET client_min_messages = warning; DROP SCHEMA $schema CASCADE");
    return;
}

my $before = 'plain';
for my $name (@names) {
    my $renamed = $node->safe_psql('house', 'SET ROLE landlord; ALTER SCHEMA ' . quoted($before) . ' RENAME TO ' . quoted($name));
    $before = $name;
    run_jobs($name, $_) for $name =~ /\\/ ? @settings : ('on');
}

# The trigger that guards the extension compares names.
{
    my $ext = quoted($before);
    $node->safe_psql('house', <<"SQL");
        CREATE TABLE t (k int) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t DEFAULT;
        SELECT $ext.backfill_start('t', 'SELECT k FROM t WHERE pg_sleep(60) IS NOT NULL');
        SELECT $ext.backfill_pause(max(job)) FROM $ext.backfill_status;
        SELECT $ext.backfill_wait(max(job)) FROM $ext.backfill_status;
SQL
    for my $statement ('DROP EXTENSION partbackfill', "DROP SCHEMA $ext CASCADE") {
        my (undef, undef, $error) = $node->psql('house', $statement);
        like($error, qr/cannot drop extension "partbackfill" because backfill job \d+ is unfinished/, "$statement is refused");
    }
    $node->safe_psql('house', <<"SQL");
        SELECT $ext.backfill_cancel(max(job)) FROM $ext.backfill_status;
        SELECT $ext.backfill_wait(max(job)) FROM $ext.backfill_status;
        DROP EXTENSION partbackfill;
SQL
}
is(join('; ', slurp_file($node->logfile) =~ /a name ran as \w+/g), '', 'no name ran');

$node->stop;
done_testing();
