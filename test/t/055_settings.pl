# What a source means is what it meant when the job was started, whatever becomes of defaults meanwhile; and how a role or
# a database wants its commits does not reach those by which a worker counts its attempts.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $node = new_node('settings', settings => [ "partbackfill.crash_pause = '100ms'", 'restart_after_crash = on', "wal_writer_delay = '10s'" ]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 19) AS k;
    CREATE TABLE raw AS SELECT k FROM t;
    CREATE SCHEMA other;
    CREATE TABLE other.raw AS SELECT k FROM t;
    CREATE VIEW meanings AS SELECT concat_ws(' ', timestamptz '2024-02-01 12:00+00', interval '1 day 02:00', 1.1::float8 + 2.2,
        '\x01'::bytea, current_setting('search_path'), to_char(1.5, '9D9'), NULL = NULL) AS v;
SQL

# Whatever a database can change while a job waits; each stands at its default when the job starts.
{
    my $title = 'defaults that change while the job is paused';
    my $holder = session($node);
    close_gate($holder, 1);
    my $job = start_job($node, q{'t', 'SELECT r.k, r.tableoid::regclass || m.v AS v FROM raw AS r, meanings AS m WHERE r.k < 10 OR pass_gate(1)', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    is($node->safe_psql('postgres', "SELECT backfill_pause($job)"), 't', "$title: it is paused");
    open_gate($holder, 1);
    $holder->quit;
    $node->safe_psql('postgres', "ALTER DATABASE postgres SET $_")
        for "search_path = other, public", "TimeZone = 'Asia/Kolkata'", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'iso_8601'",
        'extra_float_digits = 0', "bytea_output = 'escape'", 'transform_null_equals = on';
    $node->restart;
    is($node->safe_psql('postgres', "SELECT backfill_resume($job)"), '1', "$title: it is resumed");
    is(wait_job($node, $job), 'done', "$title: it is done");
    is($node->safe_psql('postgres', 'SELECT count(DISTINCT v), min(v) FROM t'),
        '1|raw2024-02-01 12:00:00+00 1 day 02:00:00 3.3000000000000003 \x01 "$user", public  1.5', "$title: all partitions are of one meaning");
    $node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');
    check_clean($node, $title);
}

# What a database says of settings that no extension has declared, and what a function means by a name.
{
    my $title = 'settings of the database for applications and functions';
    $node->safe_psql('postgres', <<'SQL');
        CREATE FUNCTION conflict(v text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE r text; BEGIN SELECT v INTO r FROM (SELECT 'column' AS v) AS x; RETURN r; END $$;
        ALTER DATABASE postgres SET app.rate = '2';
SQL
    # The session keeps what it began with; a worker begins with what is there by then.
    my $job = start_job($node, q{'t', $$SELECT k, current_setting('app.rate') || ' ' || conflict('variable') AS v FROM t$$, delay => '0', keep_old => false},
        q{LOAD 'plpgsql'; SET plpgsql.variable_conflict = use_column; ALTER DATABASE postgres SET app.rate = '3'});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', 'SELECT DISTINCT v FROM t'), '2 column', "$title: they are those of the start");
    $node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL');
}

# As in the test of crash loops: the server's function for text, told that 0 is one, follows a null pointer.
crashes_on_purpose();
$node->safe_psql('postgres', "CREATE FUNCTION follow(integer) RETURNS integer LANGUAGE internal STRICT VOLATILE AS 'textlen'");
for my $case (
    [ 'the configuration', 'ALTER SYSTEM SET synchronous_commit = off; SELECT pg_reload_conf()', '' ],
    [ 'the role', 'ALTER ROLE postgres SET synchronous_commit = off', '' ],
    [ 'the database', 'ALTER DATABASE postgres SET synchronous_commit = off', '' ],
    [ 'the session', 'SELECT 1', 'SET synchronous_commit = off' ]) {
    my ($who, $before, $in_session) = @$case;
    my $title = "a crash loop, synchronous_commit off by $who";
    $node->safe_psql('postgres', $_) for split /; /, $before;
    my $place = -s $node->logfile;
    my $holder = session($node);
    close_gate($holder, 1);
    my $job = start_job($node, q{'t', 'SELECT k, CASE WHEN k = 0 AND pass_gate(1) THEN follow(0)::text ELSE v END AS v FROM t', max_attempts => 2, delay => '0', on_write => 'ignore', keep_old => false},
        $in_session);
    # On disk is the job with its first attempt; what is committed after a crash is not, unless the worker sees to it.
    await_at_gate($node, 1);
    $node->safe_psql('postgres', 'CHECKPOINT');
    eval { open_gate($holder, 1); $holder->quit }; # the crash may come before the answer
    my $state = '';
    for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default) {
        my ($code, $out) = eval { $node->psql('postgres', "SELECT backfill_wait($job, '180 s')") };
        if (defined $code && $code == 0) { $state = $out; last }
        my $crashes = () = slurp_file($node->logfile, $place) =~ /terminating any other active server processes/g;
        last if $crashes > 10;
        usleep(100_000);
    }
    is($state, 'failed', "$title: the job fails");
    my $crashes = () = slurp_file($node->logfile, $place) =~ /terminating any other active server processes/g;
    is($crashes, 2, "$title: it costs a crash for each attempt");
    $node->safe_psql('postgres', $_)
        for 'ALTER ROLE postgres RESET ALL', 'ALTER DATABASE postgres RESET ALL', 'ALTER SYSTEM RESET synchronous_commit', 'SELECT pg_reload_conf()';
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
}

$node->stop;
done_testing();
