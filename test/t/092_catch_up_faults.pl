# The steps of catching up x every fault x either method. A database for each step and method, so that one fault strikes jobs
# at every step at once. Keys were logged before the fault, and more are written after it, before a worker is there again: in
# the end the rows are exactly right, nothing is left behind, and what was built is not built again unless it must be.
use strict;
use warnings;

use Backfill;
use CatchUp;
use Test::More;

my @steps = qw(catching_up converged auditing caught_up swapping swapped);
# From the first of these on the rows that are built may have been changed in place.
my %after_settling = map { $_ => 1 } qw(caught_up swapping);
# Here the worker has locked the partition's row, for a moment, and who controls the job waits for it.
my %locks_row = map { $_ => 1 } qw(caught_up swapping swapped);
my @databases = map { my $step = $_; map { "$step $_" } qw(attach storage) } @steps;
my $keys = 400;

my $node = new_node('catch_up_faults', settings => [
        "partbackfill.crash_pause = '100ms'", 'restart_after_crash = on', 'max_worker_processes = 60', 'max_connections = 60' ]);
$node->safe_psql('postgres', <<"SQL");
    CREATE EXTENSION dblink;
    CREATE TABLE t (k int PRIMARY KEY, u text, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (1000) TO (2000);
    CREATE UNIQUE INDEX ON t_1 (u);
    CREATE TABLE raw (LIKE t INCLUDING ALL);
    CREATE TABLE written (round int);

    -- Writes to keys of both partitions, and to what they are made from: changed, deleted, inserted, moved.
    CREATE FUNCTION write(n int) RETURNS void LANGUAGE sql AS \$\$
        UPDATE t SET v = 'a ' || n WHERE k % 10 = n % 10;
        UPDATE raw SET v = 'a ' || n WHERE k % 10 = n % 10;
        WITH gone AS (DELETE FROM t WHERE k % 10 = (n + 1) % 10 AND k % 4 = n % 4 RETURNING k) DELETE FROM raw USING gone WHERE raw.k = gone.k;
        WITH new AS (INSERT INTO t SELECT k, 'u' || k, 'b ' || n FROM generate_series(0, $keys) AS i, LATERAL (VALUES (i), (i + 1000)) AS x (k)
                     WHERE k % 10 = (n + 2) % 10 ON CONFLICT DO NOTHING RETURNING *)
        INSERT INTO raw SELECT * FROM new;
    \$\$;
    -- What a source calls: writes once in a round, in another session, while the build has its snapshot.
    CREATE FUNCTION write_once() RETURNS boolean LANGUAGE plpgsql AS \$\$
    BEGIN
        IF (SELECT count(*) > 0 FROM written) THEN
            RETURN true;
        END IF;
        PERFORM dblink_exec('host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' port=' || current_setting('port')
            || ' dbname=' || quote_literal(current_database()), 'DO \$i\$ BEGIN INSERT INTO written VALUES (1); PERFORM write(1); END \$i\$');
        RETURN true;
    END
    \$\$;
SQL
$node->safe_psql('postgres', qq{CREATE DATABASE "$_" TEMPLATE postgres}) for @databases;

sub in_each {
    my ($statement, @where) = @_;
    return map { $_ => $node->safe_psql($_, ref $statement ? $statement->($_) : $statement) } @where;
}

sub await_in {
    my ($database, $query) = @_;
    $node->poll_query_until($database, $query) or die "waited in vain in $database for: $query";
    return;
}

# Starts the jobs, with that action at their steps.
sub start {
    my ($action, @where) = @_;
    in_each(sub {
            my ($step, $method) = split / /, $_[0];
            return <<"SQL";
            ALTER DATABASE "$_[0]" SET partbackfill.injection_point = '$step/1 $action';
            TRUNCATE written, t, raw;
            INSERT INTO t SELECT k, 'u' || k, 'old' FROM generate_series(0, $keys) AS i, LATERAL (VALUES (i), (i + 1000)) AS n (k);
            INSERT INTO raw SELECT k, u, 'new' FROM t;
            SELECT backfill_start('t', 'SELECT k, u, v FROM raw WHERE CASE k WHEN 0 THEN write_once() ELSE true END', on_write => 'catch_up',
                                  swap => '$method', keep_old => false, delay => '0', max_attempts => 20, lock_timeout => '2 s',
                                  audits => ARRAY['SELECT k FROM {live} EXCEPT SELECT k FROM {shadow}', 'SELECT k FROM {shadow} WHERE v IS NULL']);
SQL
    }, @where);
    return;
}

my $stands = sub {
    my ($step) = split / /, $_[0];
    return "FROM pg_stat_activity WHERE datname = '$_[0]' AND backend_type = 'partbackfill worker'"
        . " AND query LIKE '%waiting on injection point $step'";
};

sub let_go {
    my (@where) = @_;
    $node->safe_psql('postgres', join('; ', map { qq{ALTER DATABASE "$_" RESET partbackfill.injection_point} } @where));
    return;
}

# What has become of the jobs.
sub check {
    my ($title, $end, $rebuilds, @where) = @_;
    for my $database (@where) {
        my $what = "$title, at $database";
        my $job = $node->safe_psql($database, 'SELECT max(job) FROM backfill_job');
        is($node->safe_psql($database, "SELECT backfill_wait($job, '180 s')"), $end, "$what: the job is $end")
            or diag($node->safe_psql($database, "SELECT * FROM backfill_progress WHERE job = $job"));
        is($node->safe_psql($database, <<"SQL"), '', "$what: the rows are exactly right");
            (SELECT 'came: ' || x::text FROM (TABLE t EXCEPT ALL TABLE raw) AS x LIMIT 5)
            UNION ALL
            (SELECT 'lost: ' || x::text FROM (TABLE raw EXCEPT ALL TABLE t) AS x LIMIT 5)
SQL
        is(leftovers($node, $database) . ($node->safe_psql($database, 'CALL await_no_worker(clock_timestamp())') eq '' ? 'a worker' : ''),
            '', "$what: nothing is left behind");
        my ($step) = split / /, $database;
        cmp_ok($node->safe_psql($database, "SELECT max(rebuilds) FROM backfill_progress WHERE job = $job"), '<=', $rebuilds->($step),
            "$what: what was built is not built again");
        cmp_ok($node->safe_psql($database, 'SELECT count(*) FROM written'), '==', 1, "$what: there were writes during the build");
    }
    return;
}

my $at_settling = sub { return $after_settling{ $_[0] } ? 1 : 0 };
my $never = sub { return 0 };
# Each worker that comes meets the same fault there, until it is taken away.
my $again = sub { return $after_settling{ $_[0] } ? 20 : 0 };
my $write = 'SELECT write(2); SELECT write(3)';

sub strike {
    my ($title, $fault, $rebuilds) = @_;
    my $begun = time;
    start('stop', @databases);
    await_in($_, 'SELECT count(*) = 1 ' . $stands->($_)) for @databases;
    my @pids = map { $node->safe_psql($_, 'SELECT pid ' . $stands->($_)) } @databases;
    let_go(@databases);
    $fault->(@pids);
    in_each($write, @databases);
    in_each('SELECT backfill_resume()', @databases);
    check($title, 'done', $rebuilds, @databases);
    diag("$title: " . (time - $begun) . ' s');
    return;
}

strike('kill -9 of a worker', sub { kill_worker($node, $_[0]) }, $at_settling);
strike('pg_terminate_backend', sub {
        my $pids = join(', ', @_);
        $node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[$pids]) AS pid");
        await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pids)");
}, $at_settling);
strike('immediate stop', sub { $node->stop('immediate'); $node->start }, $at_settling);
strike('kill -9 of the postmaster', sub { kill_postmaster($node) }, $at_settling);

# A worker that stands with the partition's row locked is out of reach of who controls its job.
my @reachable = grep { my ($step) = split / /; !$locks_row{$step} } @databases;
for my $control (qw(cancel pause)) {
    start('stop', @reachable);
    await_in($_, 'SELECT count(*) = 1 ' . $stands->($_)) for @reachable;
    let_go(@reachable);
    my %job = in_each('SELECT max(job) FROM backfill_job', @reachable);
    in_each(sub { return "SELECT backfill_$control($job{$_[0]})" }, @reachable);
    my %rests = in_each(sub { return "SELECT backfill_wait($job{$_[0]}, '180 s')" }, @reachable);
    is(join(' ', map { $rests{$_} } @reachable), join(' ', map { $control eq 'cancel' ? 'canceled' : 'paused' } @reachable), "$control: all jobs rest");
    if ($control eq 'cancel') {
        for my $database (@reachable) {
            is(leftovers($node, $database), '', "cancel, at $database: nothing is left behind");
            is($node->safe_psql($database, q{SELECT count(*) FROM t WHERE v = 'new'}), '0', "cancel, at $database: the rows are the old ones");
            # A new job has the rows right.
            $node->safe_psql($database, $write);
        }
        next;
    }
    in_each($write, @reachable);
    in_each(sub { return "SELECT backfill_resume($job{$_[0]})" }, @reachable);
    check('pause and resume', 'done', $never, @reachable);
}

#
# What the worker does to itself
#
for my $action (qw(fail exit)) {
    my @where = grep { $action ne 'fail' || $_ !~ /swapped/ } @databases;
    start($action, @where);
    for my $database (@where) {
        my ($step) = split / /, $database;
        await_in($database, $action eq 'fail' ? 'SELECT attempts >= 1 AND error IS NOT NULL FROM backfill_progress WHERE ordinal = 1 ORDER BY job DESC LIMIT 1'
            : q{SELECT state IN ('ready', 'done') AND worker_pid IS NULL AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'partbackfill worker') FROM backfill_progress WHERE ordinal = 1 ORDER BY job DESC LIMIT 1});
    }
    in_each($write, @where);
    let_go(@where);
    # A worker that is there has the setting still.
    $node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'});
    check("the worker's own $action", 'done', $again, @where);
}
for my $n (0 .. $#steps) {
    my $database = $databases[ 2 * $n + $n % 2 ]; # by either method in turn
    my $offset = -s $node->logfile;
    eval { start('crash', $database) }; # whose session may be gone before it knows
    $node->wait_for_log(qr/terminated by signal 9/, $offset);
    $node->poll_query_until('postgres', qq{ALTER DATABASE "$database" RESET partbackfill.injection_point}, 'ALTER DATABASE') or die 'cannot reset';
    $node->poll_query_until($database, 'SELECT write(2)', '') or die 'cannot write';
    # A worker that began before crashes once more.
    await_in($database, q{SELECT state = 'done' FROM backfill_status ORDER BY job DESC LIMIT 1});
    check("the worker's own crash", 'done', $again, $database);
}

$node->stop;
done_testing();
