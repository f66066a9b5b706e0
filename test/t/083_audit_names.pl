# As whom an audit runs, under which search_path and settings, and what its placeholders become, whatever the names are.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('audit_names');

# Starts a job for t with these audits.
sub start {
    my ($audits, $options, $before) = @_;
    return start_job($node, "'t', 'raw', delay => '0', keep_old => false, $options audits => ARRAY[" . join(', ', map { "\$a\$$_\$a\$" } @$audits) . ']', $before);
}

sub error_in {
    my ($job, $ordinal) = @_;
    return $node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = $ordinal");
}

{
    my $title = 'the owner of the job';
    $node->safe_psql('postgres', <<'SQL');
        CREATE ROLE app LOGIN;
        GRANT CREATE ON SCHEMA public TO app;
        CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199) AS k;
        CREATE TABLE raw AS SELECT k, 'new' AS v FROM t;
        ALTER TABLE t OWNER TO app; ALTER TABLE t_1 OWNER TO app; ALTER TABLE t_2 OWNER TO app; ALTER TABLE raw OWNER TO app;
        CREATE TABLE secret AS SELECT 1 AS k;
        CREATE FUNCTION read_secret() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM secret); END $$;
        CREATE SCHEMA helpers AUTHORIZATION app;
        CREATE FUNCTION helpers.expected() RETURNS int LANGUAGE sql AS 'SELECT 100';
        CREATE TABLE helpers.t_1 AS SELECT 1 AS k, 'decoy'::text AS v;
        CREATE TABLE helpers.t_2 AS TABLE helpers.t_1;
        GRANT SELECT ON ALL TABLES IN SCHEMA helpers TO app;
SQL
    my $as_app = q{SET SESSION AUTHORIZATION app; SET search_path = helpers, public; SET app.least = '100'; SET DateStyle = 'SQL, DMY'};
    my $job = start([ 'SELECT count(*) FROM {shadow} HAVING count(*) <> expected()', q{SELECT 1 WHERE expected() < current_setting('app.least')::int},
            q{SELECT current_user, session_user, current_setting('DateStyle') WHERE (current_user, session_user) <> ('app', 'app')},
            q{SELECT v FROM {live} WHERE v <> 'old'}, q{SELECT v FROM {shadow} WHERE v <> 'new'} ], '', $as_app);
    is(wait_job($node, $job), 'done', "$title: with its search_path and settings") or diag(error_in($job, 1));
    is($node->safe_psql('postgres', 'SELECT v, count(*) FROM t GROUP BY v'), 'new|200', "$title: the rows are right");
    $job = start(['SELECT read_secret()'], q{max_attempts => 1, partitions => ARRAY['public.t_1'::regclass],}, $as_app);
    is(wait_job($node, $job), 'failed', "$title: what it may not read");
    like(error_in($job, 1), qr/^audit 1: permission denied for table secret/, "$title: is an error");
    $job = start([q{SELECT current_user, {range_start}::int, {range_end}::int, DATE '2024-02-01' AS d}], q{partitions => ARRAY['public.t_1'::regclass],}, $as_app);
    is(wait_job($node, $job), 'failed', "$title: a row");
    like(error_in($job, 1), qr/^Detail: The row is [(]current_user = app, int4 = 0, int4 = 100, d = 01\/02\/2024[)]\.$/m, "$title: as it would show it");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($node, $job);
    check_clean($node, $title);
}
for my $method (qw(attach storage)) {
    my $title = "$method: odd names";
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP SCHEMA IF EXISTS "o'dd ""{live}" CASCADE;
        CREATE SCHEMA "o'dd ""{live}";
        SET search_path = "o'dd ""{live}";
        CREATE TABLE "{range_end}" (k text PRIMARY KEY, "v {shadow}" int) PARTITION BY RANGE (k);
        CREATE TABLE "p'; DROP TABLE x; --""{shadow}\" PARTITION OF "{range_end}" FOR VALUES FROM (E'a''\\ {live}') TO ('b');
        INSERT INTO "{range_end}" VALUES (E'a''\\ {live}', 1), ('aa', 2), ('ab', NULL);
SQL
    my $start = sub {
        my ($audits) = @_;
        return start_job($node, q{$r$"o'dd ""{live}"."{range_end}"$r$, $s$SELECT k, "v {shadow}" + 1 AS "v {shadow}" FROM "o'dd ""{live}"."{range_end}"$s$, delay => '0',}
                . " keep_old => false, swap => '$method', audits => ARRAY[$audits]");
    };
    my $job = $start->(q{'SELECT k FROM {shadow} WHERE k < {range_start} OR k >= {range_end}',
        'SELECT l.k FROM {live} AS l JOIN {shadow} AS s USING (k) WHERE to_jsonb(s) ->> 1 IS NOT NULL OR to_jsonb(l) = ''{"a": {"b": 1}}'''});
    is(wait_job($node, $job), 'done', "$title: the job is done") or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"));
    $job = $start->(q{'SELECT {range_start} AS start, {range_end} AS "end" FROM {live}, {shadow} LIMIT 1'});
    is(wait_job($node, $job), 'failed', "$title: a row");
    like(error_in($job, 1), qr/^Detail: The row is [(]start = a'\\ \{live\}, end = b[)]\.$/m, "$title: the bounds are literals");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($node, $job);
    check_clean($node, $title);
}

$node->stop;
done_testing();
