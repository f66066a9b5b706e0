# Functions that the owner of a table put into its indexes and statistics run as that owner, and cannot change the session,
# in a job of somebody else's, a superuser's even: from the first look at an expression, at which the server calls what is
# constant in it, to the last row.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('expressions', settings => [ 'max_parallel_maintenance_workers = 2', 'min_parallel_table_scan_size = 0' ]);

# Each call is a line of the log.
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE alice LOGIN;
    GRANT CREATE ON SCHEMA public TO alice;
    SET SESSION AUTHORIZATION alice;
    CREATE FUNCTION folded(place text) RETURNS integer IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
    BEGIN
        RAISE LOG 'trap: % as %', place, current_user;
        RETURN 0;
    END
    $$;
    CREATE FUNCTION called(place text, n integer) RETURNS integer IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
    BEGIN
        RAISE LOG 'trap: each row of % as %', place, current_user;
        RETURN n;
    END
    $$;
    CREATE FUNCTION escape(what text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE what;
        RAISE LOG 'trap: "%" in an index as %', what, current_user;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE LOG 'refused: "%"', what;
    END
    $$;
    CREATE FUNCTION escaping(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
    BEGIN
        IF n = 150 THEN
            PERFORM public.escape('SET ROLE postgres'), public.escape('RESET SESSION AUTHORIZATION'),
                    public.escape('CREATE TEMPORARY TABLE dropped (a int) ON COMMIT DROP');
        END IF;
        RETURN n;
    END
    $$;
    CREATE TABLE referred (v int PRIMARY KEY, w int);
    INSERT INTO referred SELECT g, g FROM generate_series(1, 300) AS g;
    CREATE INDEX ON referred ((w + folded('index of the table referred to')));
SQL

sub make_table {
    my ($name) = @_;
    $node->safe_psql('postgres', <<"SQL");
        SET SESSION AUTHORIZATION alice;
        CREATE TABLE $name (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
        CREATE TABLE ${name}_1 PARTITION OF $name FOR VALUES FROM (0) TO (1000);
        CREATE TABLE ${name}_rest PARTITION OF $name DEFAULT;
        CREATE INDEX ON $name ((v + folded('index')), (called('index', v)));
        CREATE INDEX ON $name (v) WHERE v > folded('predicate') AND called('predicate', v) > 0;
        CREATE INDEX ON $name USING hash ((called('hash index', v) + folded('hash index')));
        CREATE INDEX ON ${name}_1 (escaping(v));
        CREATE STATISTICS ${name}_s ON (v + folded('statistics')), (called('statistics', v)) FROM ${name}_1;
        INSERT INTO $name SELECT g, g FROM generate_series(1, 300) AS g;
SQL
    return;
}

sub check_job {
    my ($title, $table, $swap) = @_;
    my $place = -s $node->logfile;
    my $job = start_job($node, "'$table', 'SELECT g AS k, g AS v FROM generate_series(1, 300) AS g',"
            . " partitions => '{${table}_1}', swap => '$swap', delay => '0'");
    is(wait_job($node, $job), 'done', "$title: the job of a superuser is done");
    my $log = slurp_file($node->logfile, $place);
    my %whose = (alice => {}, postgres => {});
    $whose{$2}{$1}++ while $log =~ /trap: (.*?) as (\w+)$/mg;
    # 1.0 looked at all of them as the role of the job.
    is(join('; ', sort keys %{ $whose{postgres} }), '', "$title: nothing of alice's runs as that superuser");
    ok($whose{alice}{$_}, "$title: $_ runs as alice")
        for 'index', 'predicate', 'hash index', 'statistics', map { "each row of $_" } 'index', 'predicate', 'hash index', 'statistics';
    for my $what ('SET ROLE postgres', 'RESET SESSION AUTHORIZATION', 'CREATE TEMPORARY TABLE dropped \(a int\) ON COMMIT DROP') {
        like($log, qr/refused: "$what"/, "$title: $what is refused");
    }
    return;
}

for my $swap ('attach', 'storage') {
    make_table($swap);
    check_job($swap, $swap, $swap);
}

# The keys of both directions are checked by queries that the server plans.
make_table('keyed');
$node->safe_psql('postgres', <<'SQL');
    SET SESSION AUTHORIZATION alice;
    ALTER TABLE keyed ADD FOREIGN KEY (v) REFERENCES referred;
    ALTER TABLE keyed_1 FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY;
    CREATE TABLE referring (k int REFERENCES keyed, x int);
    INSERT INTO referring SELECT g, g FROM generate_series(1, 300) AS g;
SQL
check_job('foreign keys', 'keyed', 'storage');

$node->stop;
done_testing();
