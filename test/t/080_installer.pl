# Control tables command the workers of every role, and what hangs on them runs as the extension's owner: all of it has
# to belong to superusers. An installer who is no superuser any more, another owner of a table or a function, and a role
# with TRIGGER on a table get nothing run, and everybody is told why.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('installer', settings => [ "partbackfill.crash_pause = '100ms'", 'autovacuum = off' ]);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE bob LOGIN SUPERUSER;
    CREATE ROLE app LOGIN;
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300);
    INSERT INTO t SELECT k, 'old' FROM generate_series(100, 299) AS k;
    CREATE TABLE seen (what text, by_role text);
    GRANT INSERT ON seen TO PUBLIC;
    GRANT CREATE ON SCHEMA public TO app, bob;
    CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.seen VALUES (tg_name, current_user);
        RETURN NEW;
    END $$;
    DROP EXTENSION partbackfill;
SQL
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE postgres") for qw(bobs plain);

sub as_role {
    my ($database, $role, $statements) = @_;
    my (undef, undef, $error) = $node->psql($database, $statements, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);
    return $error;
}

sub seen {
    my ($database) = @_;
    return $node->safe_psql($database, q{SELECT string_agg(DISTINCT what || ' as ' || by_role, ', ') FROM seen});
}

my $source = q{'t', 'SELECT k, ''new''::text AS v FROM generate_series(100, 299) AS k', delay => '0', keep_old => false};

#
# bob installs it, and is a superuser no more
#
as_role('bobs', 'bob', 'CREATE EXTENSION partbackfill');
my $job = $node->safe_psql('bobs', "SELECT backfill_start($source, range_start => '200')");
is($node->safe_psql('bobs', "SELECT backfill_wait($job, '180 s')"), 'done', 'a job of a superuser, while the installer is one');
my $gate = $node->background_psql('bobs');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$job = $node->safe_psql('bobs', "SELECT backfill_start('t', 'SELECT k, pass_gate(1)::text AS v FROM generate_series(100, 299) AS k', delay => '0', keep_old => false)");
await($node, q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, 1, 1) AND NOT granted});
$node->safe_psql('bobs', "SELECT backfill_pause($job)");
is($node->safe_psql('bobs', "SELECT backfill_wait($job, '180 s')"), 'paused', 'another one is paused');
$node->safe_psql('postgres', 'ALTER ROLE bob NOSUPERUSER');

# 1.0 ran what bob wrote as the superuser who had started the job, once that was resumed, and called his trigger meanwhile.
is(as_role('bobs', 'bob', "UPDATE backfill_job SET source = 'SELECT k, current_user::text AS v FROM generate_series(100, 299) AS k'"), '',
    'bob writes a source into the job of a superuser');
is(as_role('bobs', 'bob', 'CREATE TRIGGER bobs BEFORE UPDATE ON backfill_job FOR EACH ROW EXECUTE FUNCTION spy()'), '', 'and hangs a trigger on it');
my $refused = qr/ERROR:  42501: owner of extension "partbackfill" must be a superuser.*DETAIL:  It belongs to role "bob".*HINT:  .*REASSIGN OWNED/s;
for my $call ("backfill_resume($job)", 'backfill_resume()', "backfill_cancel($job)", "backfill_alter($job, workers => 2)",
    "backfill_retry($job)", "backfill_wait($job)", "backfill_purge($job)", "backfill_start($source)") {
    like(as_role('bobs', 'postgres', "SELECT $call"), $refused, "$call is refused");
}
like(as_role('bobs', 'postgres', "SELECT * FROM $_"), $refused, "$_ says so, too") for qw(backfill_status backfill_progress);
is($node->safe_psql('bobs', "SELECT count(*) FROM t WHERE v = 'postgres'"), '0', 'nothing of his ran as the superuser');
is(seen('bobs'), '', 'nor his trigger');

#
# A worker that is at it
#
$node->safe_psql('postgres', 'ALTER ROLE bob SUPERUSER');
$node->safe_psql('bobs', 'DROP TRIGGER bobs ON backfill_job');
$node->safe_psql('bobs', "SELECT backfill_cancel($job)");
$node->safe_psql('bobs', "SELECT backfill_wait($job, '180 s')");
$job = $node->safe_psql('bobs', "SELECT backfill_start('t', 'SELECT k, pass_gate(1)::text AS v FROM generate_series(100, 299) AS k', delay => '0', keep_old => false)");
await($node, q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, 1, 1) AND NOT granted});
my $log = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER ROLE bob NOSUPERUSER');
$gate->quit;
# 1.0 went on with whatever bob wrote into the tables.
ok($node->wait_for_log(qr/WARNING:  backfill job $job: owner of extension "partbackfill" must be a superuser/, $log),
    'a worker that loses its trust says so');
is($node->safe_psql('bobs', "SELECT count(*) FROM t WHERE v = 'true'"), '0', 'and swaps nothing');
$node->safe_psql('postgres', 'ALTER ROLE bob SUPERUSER');
is($node->safe_psql('bobs', "SELECT backfill_wait($job, '180 s')"), 'done', 'it goes on when bob is a superuser again');
is($node->safe_psql('bobs', "SELECT count(*) FROM t WHERE v = 'true'"), '200', 'and does all of it');

#
# The launcher
#
$node->safe_psql('bobs', "SELECT backfill_start($source, throttle_query => 'SELECT true', range_start => '200')");
$node->safe_psql('postgres', 'ALTER ROLE bob NOSUPERUSER');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'partbackfill'");
$log = -s $node->logfile;
$node->restart;
# 1.0 started workers for what stood there.
ok($node->wait_for_log(qr/ERROR:  owner of extension "partbackfill" must be a superuser/, $log), 'the launcher says so');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'}), '0', 'and starts nothing');
like(as_role('bobs', 'bob', 'DROP EXTENSION partbackfill'), qr/owner of extension "partbackfill" must be a superuser/,
    'bob does not drop the extension under the job');
is(as_role('bobs', 'postgres', 'DROP EXTENSION partbackfill; CREATE EXTENSION partbackfill'), '', 'a superuser makes it anew');
$job = $node->safe_psql('bobs', "SELECT backfill_start($source)");
is($node->safe_psql('bobs', "SELECT backfill_wait($job, '180 s')"), 'done', 'and it works');

#
# Of the extension of a superuser one piece is another's
#
$node->safe_psql('plain', 'CREATE EXTENSION partbackfill');
my $installation = $node->safe_psql('plain', 'SELECT backfill_installation()');
$job = $node->safe_psql('plain', "SELECT backfill_start($source, throttle_query => 'SELECT true')");

# What bob makes of it while it is his; 1.0 called that as the superuser who had installed the extension.
my %bobs = (
    backfill_installation => "CREATE OR REPLACE FUNCTION backfill_installation() RETURNS uuid LANGUAGE plpgsql AS "
        . "'BEGIN INSERT INTO public.seen VALUES (''backfill_installation'', current_user); RETURN ''$installation''; END'",
    map { $_ => "CREATE TRIGGER bobs BEFORE INSERT OR UPDATE ON $_ FOR EACH ROW EXECUTE FUNCTION spy()" }
        qw(backfill_job backfill_control backfill_write));
for my $piece ('table backfill_job', 'table backfill_control', 'table backfill_write', 'function backfill_installation',
    'function backfill_announce', 'function backfill_keep_local') {
    my ($kind, $name) = split / /, $piece;
    $node->safe_psql('plain', "ALTER $piece OWNER TO bob");
    is(as_role('plain', 'bob', $bobs{$name}), '', "bob makes something of his $piece") if $bobs{$name};
    like(as_role('plain', 'postgres', "SELECT backfill_alter($job, delay => '1 s')"),
        qr/ERROR:  42501: owner of $kind "$name" must be a superuser/, "another owner of $piece is refused");
    $node->safe_psql('plain', "ALTER $piece OWNER TO postgres");
    next if $kind ne 'table';
    like(as_role('plain', 'postgres', "SELECT backfill_alter($job, delay => '1 s')"),
        qr/ERROR:  55000: table "$name" has a trigger, a rule or a child that the extension did not make/, 'so is what he left on it');
    $node->safe_psql('plain', "DROP TRIGGER bobs ON $name");
}
is(seen('plain'), '', 'and nothing of bob ran');
$node->safe_psql('plain', "SELECT backfill_cancel($job)");
is($node->safe_psql('plain', "SELECT backfill_wait($job, '180 s')"), 'canceled', 'the job ends');
$node->safe_psql('plain', 'DROP EXTENSION partbackfill; CREATE EXTENSION partbackfill; TRUNCATE seen');

# A writer to a partition that is watched meets what hangs on backfill_write in its own session.
my $reader = $node->background_psql('plain');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT count(*) FROM t');
$job = $node->safe_psql('plain', "SELECT backfill_start($source)");
$node->poll_query_until('plain', "SELECT ready = 2 FROM backfill_status WHERE job = $job") or die 'the job does not get ready';
$node->safe_psql('plain', "SET lock_timeout = '20s'; ALTER TABLE backfill_write OWNER TO bob");
is(as_role('plain', 'bob', <<'SQL'), '', 'bob makes an index');
    CREATE FUNCTION bobs(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 0; END $$;
    CREATE INDEX bobs ON backfill_write (bobs(job));
SQL
# 1.0 crashed.
like(as_role('plain', 'postgres', "UPDATE t SET v = 'written' WHERE k = 100"),
    qr/ERROR:  55000: table "backfill_write" has an index on expressions/, 'its function is not called by who writes');
$node->safe_psql('plain', 'DROP INDEX bobs; ALTER TABLE backfill_write OWNER TO postgres');
is(as_role('plain', 'postgres', "UPDATE t SET v = 'written' WHERE k = 100"), '', 'without it the write is noted');
$reader->quit;
is($node->safe_psql('plain', "SELECT backfill_wait($job, '180 s')"), 'done', 'and the job is done');

#
# Grants
#
$node->safe_psql('plain', 'GRANT ALL ON ALL TABLES IN SCHEMA public TO app');
is(as_role('plain', 'app', 'CREATE TRIGGER apps BEFORE INSERT OR UPDATE ON backfill_job FOR EACH ROW EXECUTE FUNCTION spy()'), '',
    'with ALL ON ALL TABLES a role hangs a trigger on a control table');
# 1.0 called it as the superuser.
like(as_role('plain', 'postgres', "SELECT backfill_start($source)"),
    qr/ERROR:  42501: table "backfill_job" must not be open to triggers and foreign keys of other roles.*HINT:  REVOKE ALL ON TABLE public.backfill_job FROM app/s,
    'the privilege is refused');
$node->safe_psql('plain', 'REVOKE TRIGGER, REFERENCES ON ALL TABLES IN SCHEMA public FROM app');
like(as_role('plain', 'postgres', "SELECT backfill_start($source)"), qr/ERROR:  55000: table "backfill_job" has a trigger/, 'so is the trigger');
is(seen('plain'), '', 'nothing of it ran');
$node->safe_psql('plain', 'DROP TRIGGER apps ON backfill_job; GRANT pg_write_all_data, pg_read_all_data TO app');
$job = $node->safe_psql('plain', "SELECT backfill_start($source, throttle_query => 'SELECT true')");
# 1.0 had its workers run what such a role wrote as another role.
is($node->safe_psql('plain', q{UPDATE backfill_job SET throttle_query = 'SELECT evil()'; SELECT count(*) FROM backfill_job},
        extra_params => [ '-U', 'app' ]), '0', 'a role that may write all tables sees no job and changes none');
like(as_role('plain', 'app', 'INSERT INTO backfill_write VALUES (1, 1, pg_current_xact_id())'), qr/violates row-level security/, 'nor adds a row');
is($node->safe_psql('plain', 'SELECT count(*) FROM backfill_job WHERE throttle_query LIKE \'%evil%\''), '0', 'the job is as it was');
$node->safe_psql('plain', "SELECT backfill_cancel($job)");
is($node->safe_psql('plain', "SELECT backfill_wait($job, '180 s')"), 'canceled', 'and goes on to be controlled by its owner');
$node->stop;
done_testing();
