# A role that may create objects puts a schema of decoys before pg_catalog: a namesake of each function and operator of the server,
# and operators for the pairs of types that the server casts. The owner of the database, or of the session, sets search_path so. What
# then runs is the extension's own SQL: as superuser in the launcher's look into the database and in the obituary, and in whatever a
# superuser calls. 1.0 ran text = text as superuser in the launcher and in the obituary, 429 decoys in one backfill_plan.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('decoys_in_path', settings => [q{shared_preload_libraries = 'partbackfill'}]);
$node->safe_psql('postgres', 'DROP EXTENSION partbackfill; CREATE ROLE mallory; CREATE ROLE worker LOGIN; CREATE DATABASE trap');
$node->safe_psql('trap', <<'SQL');
    CREATE SCHEMA ext;
    CREATE EXTENSION partbackfill SCHEMA ext;
    GRANT USAGE ON SCHEMA ext TO worker;
    GRANT CREATE ON DATABASE trap TO worker;
    CREATE SCHEMA app AUTHORIZATION worker;
    SET ROLE worker;
    CREATE FUNCTION app.base(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v / 1';
    CREATE FUNCTION app.f(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN base(v); END';
    SET search_path = app;
    CREATE TABLE app.t (k int PRIMARY KEY, v int, CHECK (app.f(v) >= 0)) PARTITION BY RANGE (k);
    CREATE TABLE app.t_1 PARTITION OF app.t FOR VALUES FROM (0) TO (10);
    CREATE TABLE app.t_2 PARTITION OF app.t FOR VALUES FROM (10) TO (20);
    CREATE TABLE app.t_rest PARTITION OF app.t DEFAULT;
    INSERT INTO app.t SELECT g, g FROM generate_series(0, 29) AS g;

    RESET ROLE;
    RESET search_path;
    CREATE SCHEMA evil AUTHORIZATION mallory;
    GRANT USAGE ON SCHEMA evil TO PUBLIC;
    SET ROLE mallory;
    SET check_function_bodies = off;
    CREATE TABLE evil.planted (kind text, of text);
    DO $do$
    DECLARE
        types text[] := ARRAY['text', 'name', '"char"', 'oid', 'int2', 'int4', 'int8', 'numeric', 'float8', 'boolean', 'interval',
            'timestamptz', 'regclass', 'regnamespace', 'regtype', 'regrole', 'regproc'];
        d record;
        name text;
        body text := $b$BEGIN RAISE LOG 'decoy %% ran as %%', %L, current_user; RETURN %s; END$b$;
    BEGIN
        -- Those with the server's own signatures. What takes pseudo-types other than polymorphic ones only C can write.
        FOR d IN SELECT p.oid, p.proname, p.oid::regprocedure::text AS of, pg_get_function_result(p.oid) AS result,
                        pg_get_function_arguments(p.oid) AS arguments,
                        p.proretset OR p.proargmodes && ARRAY['o', 'b', 't']::"char"[] AS returns_rows
                 FROM pg_proc AS p
                 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a', 'w')
        LOOP
            BEGIN
                EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', d.proname, d.arguments, d.result,
                               format(body, d.of, CASE WHEN d.returns_rows THEN '' ELSE 'NULL' END));
                INSERT INTO evil.planted VALUES ('function', d.of);
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END LOOP;
        FOR d IN SELECT row_number() OVER () AS n, o.* FROM (
                 SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result
                 FROM pg_operator AS o
                 JOIN pg_type AS rt ON rt.oid = o.oprright AND rt.typtype <> 'p'
                 LEFT JOIN pg_type AS lt ON lt.oid = o.oprleft
                 WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND lt.typtype IS DISTINCT FROM 'p'
                 UNION
                 SELECT op, l::regtype, r::regtype, result::regtype
                 FROM (VALUES ('=', 'boolean'), ('<>', 'boolean'), ('<', 'boolean'), ('>', 'boolean'), ('<=', 'boolean'), ('>=', 'boolean'),
                              ('~', 'boolean'), ('!~', 'boolean'), ('~~', 'boolean'), ('||', 'text'), ('+', 'numeric'), ('-', 'numeric'),
                              ('*', 'numeric'), ('/', 'numeric'), ('%', 'numeric')) AS o (op, result),
                      unnest(types) AS l, unnest(types) AS r
                 WHERE NOT EXISTS (SELECT FROM pg_operator WHERE oprname = op AND oprleft = l::regtype AND oprright = r::regtype)) AS o
        LOOP
            name := 'operator_' || d.n;
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name, concat_ws(',', NULLIF(d.l::text, '-'), d.r), d.result,
                           format(body, format('%s %s %s', d.l, d.oprname, d.r), 'NULL'));
            EXECUTE format('CREATE OPERATOR evil.%s (%s RIGHTARG = %s, FUNCTION = evil.%I)', d.oprname,
                           CASE WHEN d.l::oid <> 0 THEN format('LEFTARG = %s,', d.l) END, d.r, name);
            INSERT INTO evil.planted VALUES ('operator', name);
        END LOOP;
    END
    $do$;
SQL
my %planted = split /[|\n]/, $node->safe_psql('trap', 'SELECT kind, count(*) FROM evil.planted GROUP BY kind');
ok($planted{function} > 2000 && $planted{operator} > 3000, "decoys: $planted{function} functions, $planted{operator} operators");
$node->safe_psql('postgres', <<'SQL');
    ALTER DATABASE trap SET search_path = evil, pg_catalog, public;
    ALTER ROLE postgres SET search_path = evil, pg_catalog, public;
    ALTER ROLE worker IN DATABASE trap SET search_path = evil, pg_catalog, public;
SQL

# Statements of the test's own, out of reach of the decoys.
sub clean {
    my ($statements) = @_;
    local $ENV{PGOPTIONS} = '-c search_path=app,public';
    return $node->safe_psql('trap', $statements);
}

sub await_clean {
    my ($query) = @_;
    local $ENV{PGOPTIONS} = '-c search_path=app,public';
    $node->poll_query_until('trap', $query) or die "waited in vain for: $query";
    return;
}

# Those of a superuser who does not know of them.
sub check_call {
    my ($statement, $expected, $settings) = @_;
    my ($status, $out, $error) = $node->psql('trap', ($settings // '') . $statement);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ran = decoys_run($node);
    is($ran, '', ($settings // '') . "$statement: no decoy ran");
    like($out . $error, $expected, 'and it does what it is to do');
    return;
}

$node->psql('trap', "SELECT 1 = 1, upper('x')");
is(decoys_run($node), 'integer = integer ran as postgres; upper(text) ran as postgres', 'decoys that run are caught');

my $source = "'app.t', 'SELECT k, v + 1 AS v FROM app.t'";
my $refused = qr/ERROR:  cannot backfill while schema "evil" is before pg_catalog in search_path/;
check_call("SELECT * FROM ext.backfill_plan('app.t')", qr/^1\|app\.t_1\|0\|10\|rebuild\|/);
check_call("SELECT * FROM ext.backfill_plan('app.t', NULL, '0', '15', newest_first => true)", qr/^1\|app\.t_2\|10\|20\|rebuild\|/);
check_call("SELECT * FROM ext.backfill_plan('app.t', partitions => ARRAY['app.t_2'::regclass])", qr/^1\|app\.t_2\|10\|20\|rebuild\|/);
check_call("SELECT * FROM ext.backfill_plan($source)", $refused);
check_call("SELECT ext.backfill_start($source)", $refused);
check_call("SELECT ext.backfill_start('app.t', 'app.t')", $refused);
check_call("SELECT ext.backfill_start($source, throttle_query => 'SELECT true', max_replica_lag => '1 s', min_free_disk => '1%')", $refused);

# All of a job's life. It is started by one who has no schema before pg_catalog, as nothing else is; the caller's own schema is
# where the CHECK's function finds what it calls.
for my $role ('postgres', 'worker') {
    for my $swap ('attach', 'storage') {
        my $title = "a job of $role by $swap";
        my $as = "SET SESSION AUTHORIZATION $role;";
        my $job = clean("$as SELECT ext.backfill_start($source, swap => '$swap', delay => '1 hour', throttle_query => 'SELECT 1 > 2', max_wal_rate => '1GB', max_replica_lag => '1 hour')");
        await_clean("SELECT done = 1 FROM ext.backfill_status WHERE job = $job");
        is(decoys_run($node), '', "$title: none ran until its first partition was done");
        check_call("TABLE ext.backfill_status", qr/^$job\|.*\|running\|/m);
        check_call("TABLE ext.backfill_progress", qr/^$job\|2\|/m);
        check_call("SELECT ext.backfill_pause($job)", qr/^t$/m);
        check_call("SELECT ext.backfill_wait($job, '20 s')", qr/^paused$/m);
        check_call("SELECT ext.backfill_alter($job, delay => '0', max_replica_lag => '2 hours', throttle_query => 'SELECT false')", qr/^$/m);
        check_call("SELECT ext.backfill_resume()", qr/^1$/m);
        check_call("SELECT ext.backfill_wait($job, '20 s')", qr/^done$/m);
        check_call("SELECT ext.backfill_cancel($job)", qr/^f$/m);
        check_call("SELECT ext.backfill_retry($job)", qr/^0$/m);
        check_call("SELECT ext.backfill_purge($job)", qr/^3$/m);
    }
}
is(clean('SELECT sum(v - k) FROM app.t'), 30 * 4, 'the rows are those of the jobs');

# A partition that fails is tried again, and the job canceled.
{
    my $job = clean("SELECT ext.backfill_start('app.t', 'SELECT k, v / 0 AS v FROM app.t', delay => '0', max_attempts => 1)");
    check_call("SELECT ext.backfill_wait($job, '20 s')", qr/^failed$/m);
    check_call("SELECT ext.backfill_retry($job)", qr/^3$/m);
    check_call("SELECT ext.backfill_wait($job, '20 s')", qr/^failed$/m);
    check_call("SELECT ext.backfill_cancel($job)", qr/^t$/m);
    check_call("SELECT ext.backfill_wait($job, '20 s')", qr/^canceled$/m);
}

# What the caller's own code sets lasts no longer than the caller's own query.
{
    clean(<<'SQL');
        CREATE TABLE app.u (k int) PARTITION BY RANGE (k);
        CREATE TABLE app.u_1 PARTITION OF app.u FOR VALUES FROM (0) TO (10);
        INSERT INTO app.u VALUES (1), (2);
        CREATE FUNCTION app.sets(immediately boolean) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN
            PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog, public', false);
            RETURN true;
        END
        $$;
        CREATE FUNCTION app.sets() RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog, public', false);
            RETURN true;
        END
        $$;
SQL
    # Folded when the query is planned, and called for each row.
    for my $call ('app.sets(true)', 'app.sets()') {
        my $query = "SELECT k FROM app.u WHERE $call";
        is(clean("SELECT count(*) FROM ext.backfill_plan('app.u', '$query'); SHOW search_path"), "1\napp,public", "$call: a plan leaves search_path as it was");
        my $job = clean("SELECT ext.backfill_start('app.u', '$query', delay => '0', throttle_query => 'SELECT NOT $call')");
        clean("SELECT ext.backfill_wait($job)");
        is(clean("SELECT state FROM ext.backfill_status WHERE job = $job"), 'done', "$call: a job is done");
        is(decoys_run($node), '', 'and no decoy ran');
    }
}

# The launcher looks into the database.
{
    my $job = clean("SET SESSION AUTHORIZATION worker; SELECT ext.backfill_start($source, delay => '1 hour', keep_old => false)");
    await_clean("SELECT done = 1 FROM ext.backfill_status WHERE job = $job");
    is(decoys_run($node), '', 'none ran in the job');
    $node->restart;
    await_clean("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'partbackfill worker')");
    like(slurp_file($node->logfile), qr/backfill job $job goes on/, 'after a restart the launcher found the job');
    is(decoys_run($node), '', 'and no decoy ran');

    # Its role may not connect any more: the worker that was terminated comes back in vain, and another process says so.
    clean("REVOKE CONNECT ON DATABASE trap FROM PUBLIC; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'");
    await_clean("SELECT state = 'failed' AND finished_at IS NOT NULL FROM ext.backfill_status WHERE job = $job");
    like(clean("SELECT error FROM ext.backfill_status WHERE job = $job"), qr/^the workers of the job could not connect/, 'the reason is in the job');
    await_clean("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ '^partbackfill (worker|launcher)' AND datname IS NOT NULL");
    is(decoys_run($node), '', 'and no decoy ran');

    # What the worker had built by then waits for a retry. The process that cannot be a worker tidies it up.
    check_call("SELECT ext.backfill_cancel($job)", qr/^t$/m);
    await_clean("SELECT state = 'canceled' AND finished_at IS NOT NULL FROM ext.backfill_status WHERE job = $job");
    check_call("SET client_min_messages = warning; DROP EXTENSION partbackfill CASCADE", qr/^$/);
}

$node->stop;
done_testing();
