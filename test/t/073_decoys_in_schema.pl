# Operators and functions that an unprivileged role made beforehand in the schema of the extension: none of them may run, neither
# as the superuser at CREATE EXTENSION nor at a look at the views. The server prefers a namesake with exactly the types at hand to
# its own operator that needs a cast, so a decoy is planted for every pair of types, of each operator and function that the
# script names. 1.0 ran oid = regnamespace at CREATE EXTENSION, and in backfill_status what stood for text || oid,
# bigint / numeric and others, as superuser.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('decoys_in_schema');
$node->safe_psql('postgres', 'DROP EXTENSION partbackfill; CREATE ROLE mallory; CREATE DATABASE trap; CREATE DATABASE copy; CREATE DATABASE updated');

# What the scripts call, without comments and literals; type names with a length are none.
my $script = join "\n", map { slurp_file($_) } split /\n/, $node->safe_psql('postgres', <<'SQL');
    SELECT c.setting || '/extension/partbackfill--' || v.version || '.sql'
    FROM pg_config AS c, pg_available_extensions AS e, LATERAL (VALUES (e.default_version), ('1.0--' || e.default_version)) AS v (version)
    WHERE c.name = 'SHAREDIR' AND e.name = 'partbackfill'
SQL
$script =~ s/--.*$//mg;
my $code = $script =~ s/'(?:[^']|'')*'/''/gr;
my %operators = map { $_ => 1 } ($code =~ m{(?<![-+*/<>=~!@#%^&|`?])([-+*/<>=~!@#%^&|`?]+)}g), '=', '<>', '<', '>', '<=', '>=', '~~';
delete @operators{'=>'};
my %functions = map { $_ => 1 } $script =~ /pg_catalog\.([a-z_]+)\s*\(/g;
delete @functions{qw(oid regclass regnamespace)};
ok(keys(%operators) > 10 && keys(%functions) > 10, 'the script names operators and functions: ' . join(' ', sort keys %operators, sort keys %functions));

my %own = map { $_ => 1 } $code =~ /CREATE FUNCTION \@extschema\@\.(\w+)/g;
my %bare = map { $_ => 1 } $code =~ /(?<![.\w])([a-z_]+)\s*\(/g;
delete @bare{ qw(filter format interval numeric nullif primary), keys %own };
is(join(' ', grep { $script =~ /(?<![.\w])$_\s*\(/ && $node->safe_psql('postgres', "SELECT count(*) FROM pg_proc WHERE proname = '$_'") } sort keys %bare),
    '', 'it names no function without its schema');

my $operators = join(', ', map { "'$_'" } sort keys %operators);
my $functions = join(', ', map { "'$_'" } sort keys %functions);
my $decoys = <<"SQL";
    CREATE SCHEMA IF NOT EXISTS open_to_all;
    GRANT CREATE, USAGE ON SCHEMA open_to_all TO mallory;
    SET ROLE mallory;
    SET check_function_bodies = off;
    DO \$\$
    DECLARE
        types text[] := ARRAY['text', 'name', '"char"', 'oid', 'int2', 'int4', 'int8', 'numeric', 'float8', 'boolean', 'interval',
            'timestamptz', 'regclass', 'regnamespace', 'uuid', 'text[]', 'oid[]', 'xid8', 'aclitem'];
        d record;
        body text := \$b\$BEGIN RAISE LOG 'decoy %% ran as %%', %L, current_user; RETURN NULL; END\$b\$;
    BEGIN
        FOR d IN SELECT row_number() OVER () AS n, op, l, r,
                        COALESCE((SELECT DISTINCT 'boolean' FROM pg_operator WHERE oprname = op AND oprresult = 'boolean'::regtype),
                                 CASE op WHEN '||' THEN 'text' ELSE 'numeric' END) AS result
                 FROM unnest(ARRAY[$operators]) AS op, unnest(types) AS l, unnest(types) AS r
        LOOP
            EXECUTE format('CREATE FUNCTION open_to_all.decoy_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
                           d.n, d.l, d.r, d.result, format(body, d.l || ' ' || d.op || ' ' || d.r));
            EXECUTE format('CREATE OPERATOR open_to_all.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = open_to_all.decoy_%s)', d.op, d.l, d.r, d.n);
        END LOOP;
        FOR d IN SELECT name, arguments
                 FROM unnest(ARRAY[$functions]) AS name,
                      (SELECT '' UNION ALL SELECT unnest(types) UNION ALL SELECT l || ', ' || r FROM unnest(types) AS l, unnest(types[1:11]) AS r)
                          AS a (arguments)
        LOOP
            EXECUTE format('CREATE FUNCTION open_to_all.%I(%s) RETURNS text LANGUAGE plpgsql AS %L',
                           d.name, d.arguments, format(body, d.name || '(' || d.arguments || ')'));
        END LOOP;
    END
    \$\$;
    RESET ROLE;
SQL
$node->safe_psql('trap', $decoys);
$node->safe_psql('trap', <<'SQL');
    CREATE TABLE public.t (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (0) TO (10);
    CREATE TABLE public.t_2 PARTITION OF public.t FOR VALUES FROM (10) TO (20);
    INSERT INTO public.t SELECT generate_series(0, 19);
SQL

$node->safe_psql('trap', 'SET search_path = open_to_all; SELECT 1::oid = 2::int4');
is(decoys_run($node), 'oid = int4 ran as postgres', 'a decoy that runs is caught');

# What is made of the script names the server's own objects only.
sub check_objects {
    my ($database, $title) = @_;
    is(decoys_run($node), '', "$title: no decoy ran");
    is($node->safe_psql($database, <<'SQL'), '', "$title: no object of the extension means a decoy");
        SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, 0)
        FROM pg_depend AS d
        WHERE d.deptype = 'n' AND d.classid <> 'pg_operator'::regclass
          AND ((d.refclassid = 'pg_operator'::regclass AND d.refobjid IN (SELECT oid FROM pg_operator WHERE oprowner = 'mallory'::regrole))
               OR (d.refclassid = 'pg_proc'::regclass AND d.refobjid IN (SELECT oid FROM pg_proc WHERE proowner = 'mallory'::regrole)))
        ORDER BY 1, 2
SQL
    return;
}

my ($status, $out, $error) = $node->psql('trap', 'CREATE EXTENSION partbackfill SCHEMA open_to_all');
is($status, 0, 'the extension can be created in a schema full of decoys') or diag($error);
check_objects('trap', 'CREATE EXTENSION');

# A job that runs, one that is done, one that failed: the views compute everything that they can.
for my $how ("'SELECT id FROM t'", "'SELECT id / 0 AS id FROM t', max_attempts => 1") {
    my $job = $node->safe_psql('trap', "SELECT open_to_all.backfill_start('public.t', $how, delay => '0')");
    $node->safe_psql('trap', "SELECT open_to_all.backfill_wait($job)");
}
$node->safe_psql('trap', "SELECT open_to_all.backfill_start('public.t', 'SELECT id FROM t WHERE pg_sleep(0.2) IS NOT NULL')");
$node->poll_query_until('trap', "SELECT count(*) = 1 FROM open_to_all.backfill_progress WHERE phase = 'loading'");
for my $settings ('', 'SET search_path = open_to_all, public;', 'SET search_path = open_to_all, pg_catalog, public;') {
    ($status, $out, $error) = $node->psql('trap', "$settings TABLE open_to_all.backfill_status; TABLE open_to_all.backfill_progress");
    is(decoys_run($node), '', 'none ran at a look at the views, ' . ($settings || 'by the default search_path'));
    is($error, '', 'and nothing else went wrong');
}
# The queries of the exporter, whose role can do what the owners of jobs can.
my $queries = slurp_file("$FindBin::RealBin/../../contrib/prometheus/partbackfill.yaml");
my @queries = $queries =~ /query: \|\n(.*?)\n  metrics:/gs;
is(scalar(@queries), 3, 'queries of the exporter');
for my $query (@queries) {
    (undef, undef, $error) = $node->psql('trap', "SET search_path = open_to_all, public; $query");
    is(decoys_run($node) . $error, '', 'none ran in one of them');
}
$node->psql('trap', 'SELECT open_to_all.backfill_cancel(3); SELECT open_to_all.backfill_wait(3)');
decoys_run($node);

# An update of 1.0, which could not even be created there.
$node->safe_psql('updated', "CREATE SCHEMA open_to_all; CREATE EXTENSION partbackfill SCHEMA open_to_all VERSION '1.0'");
$node->safe_psql('updated', $decoys);
decoys_run($node);
$node->safe_psql('updated', 'ALTER EXTENSION partbackfill UPDATE');
check_objects('updated', 'ALTER EXTENSION UPDATE');

# A copy by a dump, which brings the schema with its decoys before the extension where it is told to.
$node->safe_psql('copy', $decoys);
my $dump = "$PostgreSQL::Test::Utils::tmp_check/trap.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, '--extension=partbackfill', '-d', $node->connstr('trap') ], 'a dump');
$node->command_ok([ 'psql', '-X', '-q', '-f', $dump, '-d', $node->connstr('copy') ], 'and its copy');
is($node->safe_psql('copy', "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'partbackfill'"), 'open_to_all', 'the copy has it');
check_objects('copy', 'a restored dump');

$node->stop;
done_testing();
