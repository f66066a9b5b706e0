# A partition's bounds join the caller's query as text, which is read by the caller's search_path. What they are made of is
# polymorphic for enums, arrays and ranges, and VARIADIC "any" for hash partitions: a namesake for exactly the types at hand is
# preferred by the server, though pg_catalog comes first, and would decide which rows belong to the partition. 1.0 called it, as the
# job's owner, and lost the rows that it did not want.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('decoys_of_bounds');
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE mallory;
    CREATE SCHEMA open_to_all;
    GRANT CREATE, USAGE ON SCHEMA open_to_all TO PUBLIC;
    CREATE TYPE mood AS ENUM ('sad', 'calm', 'happy', 'mad');
    CREATE TYPE pair AS (a int, b int);
    CREATE DOMAIN age AS int;

    -- Operators and functions of mallory's for the type: row 7 belongs nowhere.
    CREATE PROCEDURE plant(type text, row_7 text) LANGUAGE plpgsql AS $$
    DECLARE
        op text;
        n int := 0;
    BEGIN
        SET LOCAL ROLE mallory;
        FOREACH op IN ARRAY ARRAY['=', '<', '<=', '>', '>='] LOOP
            n := n + 1;
            EXECUTE format($f$
                CREATE FUNCTION open_to_all.%1$I(l %2$s, r %2$s) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
                $b$BEGIN RAISE LOG 'decoy %3$s ran as %%', current_user; RETURN l OPERATOR(pg_catalog.%3$s) r AND l::text <> %4$L; END$b$
            $f$, 'f' || n || '_' || type, type, op, row_7);
            EXECUTE format('CREATE OPERATOR open_to_all.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = open_to_all.%I)', op, type, type, 'f' || n || '_' || type);
        END LOOP;
        EXECUTE format($f$
            CREATE FUNCTION open_to_all.satisfies_hash_partition(t oid, m int, r int, k %1$s) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
            $b$BEGIN RAISE LOG 'decoy satisfies_hash_partition ran as %%', current_user;
                RETURN pg_catalog.satisfies_hash_partition(t, m, r, k) AND k::text <> %2$L; END$b$
        $f$, type, row_7);
    END
    $$;
    GRANT USAGE ON SCHEMA public TO mallory;
SQL

# Type of the key, a row's key by its number k from 0 to 11, partitions.
my $enum = q{(enum_range(NULL::public.mood))[1 + k / 3]};
for my $case (
    [ 'mood', $enum, [ 'LIST', q{IN ('sad', 'calm')}, q{IN ('happy', 'mad')} ], [ 'RANGE', q{FROM ('sad') TO ('happy')}, q{FROM ('happy') TO (MAXVALUE)} ] ],
    [ 'int[]', 'ARRAY[k]', [ 'RANGE', q{FROM ('{0}') TO ('{6}')}, q{FROM ('{6}') TO ('{20}')} ], [ 'LIST', q{IN ('{0}', '{1}')}, 'DEFAULT' ] ],
    [ 'int4range', 'int4range(k, k + 1)', [ 'RANGE', q{FROM ('[0,1)') TO ('[6,7)')}, q{FROM ('[6,7)') TO ('[20,21)')} ] ],
    [ 'pair', 'ROW(0, k)::pair', [ 'RANGE', q{FROM ('(0,0)') TO ('(0,6)')}, q{FROM ('(0,6)') TO ('(0,20)')} ] ],
    [ 'age', 'k::age', [ 'RANGE', q{FROM ('0') TO ('6')}, q{FROM ('6') TO ('20')} ], [ 'LIST', q{IN ('0', '1', '2')}, 'DEFAULT' ] ],
    [ 'int', 'k', [ 'HASH', 'WITH (modulus 2, remainder 0)', 'WITH (modulus 2, remainder 1)' ] ],
    [ 'text', 'k::text', [ 'HASH', 'WITH (modulus 2, remainder 0)', 'WITH (modulus 2, remainder 1)' ] ]) {
    my ($type, $key, @ways) = @$case;
    $node->safe_psql('postgres', qq{SELECT ($key)::text AS row_7 FROM (SELECT 7 AS k) AS row \\gset\nCALL plant('$type', :'row_7')});
    for my $way (@ways) {
        my ($strategy, @bounds) = @$way;
        my $title = "$strategy of $type";
        $node->safe_psql('postgres', <<"SQL");
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS t;
            CREATE TABLE t (k $type NOT NULL, n int, v text) PARTITION BY $strategy (k);
            CREATE TABLE t_1 PARTITION OF t @{[ $bounds[0] eq 'DEFAULT' ? '' : 'FOR VALUES' ]} $bounds[0];
            CREATE TABLE t_2 PARTITION OF t @{[ $bounds[1] eq 'DEFAULT' ? '' : 'FOR VALUES' ]} $bounds[1];
            INSERT INTO t SELECT $key, k, 'old' FROM generate_series(0, 11) AS k;
SQL
        my $rows = $node->safe_psql('postgres', 'SELECT n FROM t ORDER BY n');
        my $from = -s $node->logfile;
        for my $path ('public, open_to_all', 'open_to_all, public') {
            my $job = start_job($node, q{'public.t', 'SELECT k, n, ''new'' AS v FROM public.t', delay => '0', keep_old => false}, "SET search_path = $path, public");
            is(wait_job($node, $job), 'done', "$title, by $path: the job is done");
            is($node->safe_psql('postgres', "SELECT n FROM t WHERE v = 'new' ORDER BY n"), $rows, 'no row is lost');
        }
        is(join('; ', slurp_file($node->logfile, $from) =~ /decoy .* ran as \w+/g), '', 'no decoy ran');
    }
}

$node->stop;
done_testing();
