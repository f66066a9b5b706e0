# What the scripts have in common: a node with the extension, jobs, and what a job must not leave behind.
#
# Whoever waits for something polls for it, with a limit; nothing sleeps for a fixed time. A wait that meets its limit
# ends the script, since all that follows would fail for the same reason.
package Backfill;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

our @EXPORT = qw(
    new_node session start_job wait_job cancel_job states await await_partition await_worker await_at_gate worker_pid
    close_gate open_gate kill_worker kill_postmaster fingerprint leftovers check_clean error_of same_text
    start_clients stop_clients crashes_on_purpose decoys_run
);

# A script that hangs fails, and says what its servers were doing, before the whole run is out of time. Each takes minutes
# at most; the bound, in seconds, is generous.
my $limit = $ENV{BACKFILL_SCRIPT_LIMIT} || 1200;
my @nodes;
$SIG{ALRM} = sub {
    alarm 60; # should what follows hang too, or something catch the error
    diag("the script has not ended after $limit s");
    for my $node (@nodes) {
        my ($code, $out) = eval {
            $node->psql('postgres', "SELECT pid, backend_type, application_name, state, wait_event_type, wait_event, now() - state_change,"
                    . " pg_blocking_pids(pid), query FROM pg_stat_activity WHERE pid <> pg_backend_pid()", timeout => 20);
        };
        diag($node->name . ': ' . ($out // $@));
    }
    confess 'the script hangs';
};
alarm $limit;

# new_node($name, allows_streaming => ..., encoding => ..., settings => [ 'name = value', ... ]): a running cluster with the
# extension.
# The background may not take part: autovacuum would meet a swap at moments of its own.
sub new_node {
    my ($name, %options) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(
        allows_streaming => $options{allows_streaming},
        extra => [ '--locale=C', '--encoding=' . ($options{encoding} // 'UTF8') ]);
    $node->append_conf('postgresql.conf', join("\n",
            'max_worker_processes = 32',
            'max_connections = 40',
            'shared_buffers = 16MB',
            'autovacuum = off',
            "timezone = 'UTC'",
            'partbackfill.helpers = on', # whatever else the machine does
            'log_statement = none',
            "log_line_prefix = '%m [%p] %b %q%a '",
            @{ $options{settings} // [] }, ''));
    $node->start;
    push @nodes, $node;
    $node->safe_psql('postgres', <<'SQL');
        CREATE EXTENSION partbackfill;

        -- A place in a source at which a test can hold it up: see close_gate.
        CREATE FUNCTION pass_gate(gate integer) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(gate);
            RETURN true;
        END
        $$;

        -- How long after `begun`, in milliseconds, no worker is left, nor a parallel worker of one; NULL when that takes
        -- more than 20 s. Measured in the server, as a client would need longer for a look than what it measures.
        CREATE PROCEDURE await_no_worker(begun timestamptz, INOUT elapsed numeric DEFAULT NULL) LANGUAGE plpgsql AS $$
        BEGIN
            WHILE EXISTS (SELECT FROM pg_stat_activity
                          WHERE datname = current_database()
                            AND (backend_type LIKE 'partbackfill%' OR backend_type = 'parallel worker')) LOOP
                IF clock_timestamp() > begun + interval '20 s' THEN
                    RETURN;
                END IF;
                COMMIT; -- the view stands still in a transaction
                PERFORM pg_sleep(0.002);
            END LOOP;
            elapsed := round(1000 * date_part('epoch', clock_timestamp() - begun)::numeric, 1);
        END
        $$;
SQL
    return $node;
}

# A session that goes on after errors, for as long as the test likes.
sub session {
    my ($node) = @_;
    my $session = $node->background_psql('postgres', on_error_stop => 0);
    $session->set_query_timer_restart(); # the limit is for a statement, not for the session
    return $session;
}

# pgbench with those arguments, once its sessions are there; ended by stop_clients(), which returns what it complained of
# when all of its sessions have gone.
sub start_clients {
    my ($node, $clients, @arguments) = @_;
    my %running = (node => $node, out => '', err => '');
    {
        local $ENV{PGAPPNAME} = 'pgbench';
        $running{run} = IPC::Run::start(
            [ 'pgbench', '-n', '-T', '600', '-c', $clients, @arguments, '-h', $node->host, '-p', $node->port, 'postgres' ],
            '>', \$running{out}, '2>', \$running{err});
    }
    await($node, "SELECT count(*) = $clients FROM pg_stat_activity WHERE application_name = 'pgbench'");
    return \%running;
}

sub stop_clients {
    my ($clients) = @_;
    $clients->{run}->signal('INT');
    $clients->{run}->finish;
    await($clients->{node}, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'");
    return $clients->{err};
}

# start_job($node, $arguments, $before): the job's number. The statements $before run in the session that starts it.
sub start_job {
    my ($node, $arguments, $before) = @_;
    my $job = $node->safe_psql('postgres', ($before // '') . "; SELECT backfill_start($arguments)");
    $job =~ s/.*\n//s;
    return $job;
}

# The state in which the job rests; its state as it is after three minutes, long after the postmaster has started any worker again.
sub wait_job {
    my ($node, $job) = @_;
    return $node->safe_psql('postgres', "SELECT backfill_wait($job, '180 s')");
}

# What backfill_cancel returned, and the milliseconds until no worker was left ('' when one stayed).
sub cancel_job {
    my ($node, $job) = @_;
    return split /\n/, $node->safe_psql('postgres', <<"SQL"), 2;
        SELECT backfill_cancel($job) AS canceled, clock_timestamp() AS begun \\gset
        \\echo :canceled
        CALL await_no_worker(:'begun');
SQL
}

# The states of the job's partitions, in their order: 'done done canceled'.
sub states {
    my ($node, $job) = @_;
    return $node->safe_psql('postgres',
        "SELECT string_agg(state, ' ' ORDER BY ordinal) FROM backfill_progress WHERE job = $job");
}

# Waits until the query gives $expected, a true boolean if that is left out.
sub await {
    my ($node, $query, $expected) = @_;
    $node->poll_query_until('postgres', $query, $expected // 't') or croak "waited in vain for: $query";
    return;
}

# Waits until a partition's line in backfill_progress fulfils the condition.
sub await_partition {
    my ($node, $job, $ordinal, $condition) = @_;
    await($node, "SELECT $condition FROM backfill_progress WHERE job = $job AND ordinal = $ordinal");
    return;
}

# Waits until the query gives something, and returns it.
sub await_value {
    my ($node, $query) = @_;
    for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default) {
        my $value = $node->safe_psql('postgres', $query);
        return $value if $value ne '';
        usleep(50_000);
    }
    croak "waited in vain for something from: $query";
}

# Waits until a worker of the job fulfils the condition on its line in pg_stat_activity; returns its process id.
sub await_worker {
    my ($node, $job, $condition) = @_;
    return await_value($node, "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'"
            . " AND query ~ '^backfill job $job\\M' AND ($condition)");
}

# Waits until somebody waits at the gate; returns his process id.
sub await_at_gate {
    my ($node, $gate) = @_;
    return await_value($node, 'SELECT min(pid) FROM pg_locks'
            . " WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, $gate, 1) AND NOT granted");
}

# The process that works on the partition.
sub worker_pid {
    my ($node, $job, $ordinal) = @_;
    return $node->safe_psql('postgres',
        "SELECT worker_pid FROM backfill_progress WHERE job = $job AND ordinal = $ordinal");
}

# A source that calls pass_gate(gate) stops there until the session opens the gate again.
sub close_gate {
    my ($session, $gate) = @_;
    $session->query_safe("SELECT pg_advisory_lock($gate)");
    return;
}

sub open_gate {
    my ($session, $gate) = @_;
    $session->query_safe("SELECT pg_advisory_unlock($gate)");
    return;
}

sub await_gone {
    my ($pid) = @_;
    for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default) {
        return if !kill(0, $pid);
        usleep(50_000);
    }
    croak "process $pid stays";
}

# Kills a worker, which takes all the server's processes with it; returns when they are back. The node has to be one with
# restart_after_crash.
sub kill_worker {
    my ($node, $pid) = @_;
    kill 9, $pid;
    await_gone($pid);
    for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default) {
        # Not psql, which may be gone before it is told what to ask.
        return if system('pg_isready', '-q', '-h', $node->host, '-p', $node->port) == 0;
        usleep(50_000);
    }
    croak 'the server did not come back';
}

# Kills the postmaster; the other processes notice. Starts the server again once they are gone.
sub kill_postmaster {
    my ($node) = @_;
    my @pids = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
    $node->kill9;
    await_gone($_) for @pids;
    $node->start;
    return;
}

# The table's rows and its file: as long as both stay the same, nobody has touched it.
sub fingerprint {
    my ($node, $table) = @_;
    return $node->safe_psql('postgres',
        "SELECT '$table'::regclass::oid, pg_relation_filenode('$table'), count(*),"
            . " md5(string_agg(line, E'\\n' ORDER BY line)) FROM (SELECT t::text AS line FROM ONLY $table AS t) AS lines");
}

# What no job may leave behind once it rests, a line each; schemas of old partitions too, unless they are asked for.
sub leftovers {
    my ($node, $database) = @_;
    return $node->safe_psql($database // 'postgres', <<'SQL');
        SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%'
        UNION ALL
        SELECT format('relation %s', oid::regclass) FROM pg_class
        WHERE relnamespace::regnamespace::text LIKE 'backfill\_%' AND relkind IN ('r', 'p')
        UNION ALL
        SELECT format('constraint %s of %s', conname, conrelid::regclass) FROM pg_constraint
        WHERE conname LIKE 'partbackfill%'
        UNION ALL
        SELECT format('trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgname LIKE 'partbackfill%'
        UNION ALL
        SELECT format('mark of job %s', job) FROM backfill_write
        UNION ALL
        SELECT format('file %s', name) FROM pg_ls_tmpdir()
        ORDER BY 1
SQL
}

# A worker may be seen for a moment longer than its job, and one that was terminated comes back for a moment; all else
# is gone when the job rests.
sub check_clean {
    my ($node, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $left = leftovers($node);
    $left .= 'a worker' if $node->safe_psql('postgres', 'CALL await_no_worker(clock_timestamp())') eq '';
    return is($left, '', "$title: nothing is left behind");
}

# Fails with the lines that only one of the two texts has.
sub same_text {
    my ($got, $expected, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return if ok($got eq $expected, $title);
    my (%got, %expected);
    $got{$_}++ for split /\n/, $got;
    $expected{$_}++ for split /\n/, $expected;
    diag("lost: $_") for grep { ($got{$_} // 0) < $expected{$_} } sort keys %expected;
    diag("came: $_") for grep { ($expected{$_} // 0) < $got{$_} } sort keys %got;
    return;
}

# The SQLSTATE with which the statements fail, 'none' when they do not, and the message.
sub error_of {
    my ($node, $statements) = @_;
    my ($code, undef, $stderr) = $node->psql('postgres', $statements, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
    my ($sqlstate, $message) = $stderr =~ /ERROR:  (\w{5}): (.*)/s;
    return ($sqlstate // 'none', $message // '');
}

# Says that the script's own SQL stops a process of the server at an invalid address, which the suite takes for a failure otherwise.
sub crashes_on_purpose {
    append_to_file("$PostgreSQL::Test::Utils::tmp_check/crashes_on_purpose", '');
    return;
}

# The decoys that ran on the node since the last call, from its log: what a transaction leaves behind goes with it.
my %decoys_read;
sub decoys_run {
    my ($node) = @_;
    my $log = slurp_file($node->logfile, $decoys_read{ $node->name } // 0);
    $decoys_read{ $node->name } += length $log;
    my %ran = map { $_ => 1 } $log =~ /decoy (.* ran as \w+)/g;
    return join('; ', sort keys %ran);
}

1;
