# The statements of the extension that look at what the caller asks for, before anything is pinned, call no operator of a
# schema that the caller has before pg_catalog.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('decoys');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE SCHEMA decoy;
    CREATE FUNCTION decoy.same(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy called'; END $$;
    CREATE FUNCTION decoy.same("char", "char") RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy called'; END $$;
    CREATE OPERATOR decoy.= (FUNCTION = decoy.same, LEFTARG = oid, RIGHTARG = oid);
    CREATE OPERATOR decoy.= (FUNCTION = decoy.same, LEFTARG = "char", RIGHTARG = "char");
SQL

for my $call ('backfill_plan(%s)', "backfill_start(%s)", "backfill_start(%s, throttle_query => 'SELECT true')") {
    my $arguments = "'public.t', 'SELECT k, v FROM public.t'";
    my (undef, undef, $error) = $node->psql('postgres',
        'SET search_path = decoy, pg_catalog, public; SELECT public.' . sprintf($call, $arguments));
    like($error, qr/ERROR:  cannot backfill while schema "decoy" is before pg_catalog in search_path/, sprintf($call, '...'));
}

$node->stop;
done_testing();
