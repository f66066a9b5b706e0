# Every function of the extension, called FUZZ_CALLS times with hostile arguments in odd situations: a right answer or an
# error that says what is wrong, never an internal one; no crash; no lock, setting or role of the session is left changed,
# and every job that came of it can be ended. FUZZ_SEED repeats a run, up to what is a matter of time.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

use FindBin;
use lib $FindBin::RealBin;
use Backfill;
use Hostile;

my $seed = $ENV{FUZZ_SEED} || (time ^ $$) % 1_000_000_000;
my $calls = $ENV{FUZZ_CALLS} || 10_000;
srand $seed;
diag("FUZZ_SEED=$seed FUZZ_CALLS=$calls");

# Calls of one session, and sessions side by side between two looks at what they leave behind.
my $per_session = 150;
my $sessions = 2;

my $encoding = $ENV{FUZZ_ENCODING} || pick('UTF8', 'UTF8', 'UTF8', 'SQL_ASCII');
allow_any_bytes() if $encoding eq 'SQL_ASCII';
my $node = new_node('fuzz', encoding => $encoding, settings => [
        'restart_after_crash = off', "log_line_prefix = '%m [%p] %e %b %q%a '", 'track_functions = all', 'max_worker_processes = 24' ]);
$node->safe_psql('postgres', slurp_file("$FindBin::RealBin/world.sql"));
my $parallel = $node->safe_psql('postgres', "SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
my @functions = functions_of($node);
ok(@functions > 10, scalar(@functions) . ' functions are found');

# Nothing but its own look is locked. What the look itself reads is in the system's catalog.
my $no_locks = <<'SQL';
SELECT 'LEFT ' || locktype || ' ' || mode || ' ' || COALESCE(relation::regclass::text, objid::text, '') FROM pg_locks
WHERE pid = pg_backend_pid() AND (locktype NOT IN ('relation', 'virtualxid', 'transactionid') OR relation >= 16384)
  AND relation IS DISTINCT FROM 'backfill_job_job_seq'::regclass -- locked to the end of the transaction by nextval()
  AND mode <> 'SIReadLock'; -- those of a SERIALIZABLE transaction outlive it, as long as another one does
SQL
my $remember = <<'SQL';
CREATE TEMP TABLE only_temp (k integer, v text);
CREATE TEMP TABLE was AS SELECT name, setting FROM pg_settings;
INSERT INTO was VALUES ('', current_user);
SQL
my $no_changes = <<'SQL';
SELECT 'CHANGED ' || name || ' ' || s.setting FROM pg_temp.was
JOIN (SELECT name, setting FROM pg_settings UNION ALL SELECT '', current_user) AS s USING (name)
WHERE was.setting <> s.setting AND name NOT IN ('in_hot_standby', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable');
SQL

# What a session does, and what it makes of it, by number of the call.
my %story;
my $number = 0;

sub script_of {
    my ($calls_left) = @_;
    my $script = "\\set VERBOSITY verbose\n\\set QUIET on\n\\pset format unaligned\n\\pset tuples_only on\n"
        . $remember;
    for (1 .. $calls_left) {
        $number++;
        my $function = pick(@functions);
        # Most calls to where most arguments are.
        my $kind = rand;
        $function = pick(grep { @{ $_->{parameters} } > 4 } @functions) if $kind < 0.6;
        $function = pick(grep { @{ $_->{parameters} } > 15 } @functions) if $kind < 0.3;
        my $text = situation(call($function), call(pick(@functions)), $parallel);
        $text =~ s/%locks/$no_locks/;
        $story{$number} = $text;
        # What one began keeps others from the same partitions.
        $script .= "SELECT count(public.backfill_cancel(job)) FROM public.backfill_status WHERE state = 'running';\n" if rand() < 0.07;
        $script .= "\\warn CALL $number\n\\echo CALL $number\n$text\n\\warn DONE $number\nROLLBACK;\n$no_locks$no_changes";
    }
    return $script . "\\warn END\n";
}

sub start_session {
    my ($role, $count) = @_;
    my %session = (role => $role, out => '', err => '');
    # Not through a pipe, which a session that ends early would break.
    my $file = PostgreSQL::Test::Utils::tempdir_short() . '/script.sql';
    append_to_file($file, script_of($count));
    local $ENV{PGOPTIONS} = '-c statement_timeout=150ms';
    local $ENV{PGAPPNAME} = 'fuzz';
    $session{run} = IPC::Run::start(
        [ 'psql', '-X', '-h', $node->host, '-p', $node->port, '-U', $role, '-f', $file, 'postgres' ],
        '>', \$session{out}, '2>', \$session{err});
    return \%session;
}

my %seen; # errors by SQLSTATE
my @faults; # what must not be

sub fault {
    my ($call, $what) = @_;
    push @faults, $what . ($call ? "\n$story{$call}" : '');
    diag(substr "FAULT: $faults[-1]", 0, 3000) if @faults <= 20;
    return;
}

sub read_session {
    my ($session) = @_;
    my $call = 0;
    for my $line (split /\n/, $session->{err}) {
        if ($line =~ /^CALL (\d+)$/) {
            $call = $1;
            next;
        }
        $line =~ /^psql:.*?(?:ERROR|FATAL|PANIC):  (\w{5})|(?:ERROR|FATAL|PANIC):  (\w{5})|CAUGHT (\w{5})/ and $seen{ $1 // $2 // $3 }++;
        fault($call, "$session->{role}: $_") for internal_errors($line);
    }
    fault($call, "$session->{role}: the session ended early: " . substr $session->{err}, -500) if $session->{err} !~ /^END$/m;
    $call = 0;
    for my $line (split /\n/, $session->{out}) {
        if ($line =~ /^CALL (\d+)$/) {
            $call = $1;
            next;
        }
        fault($call, "$session->{role}: $line") if $line =~ /^(?:LEFT|CHANGED) /;
    }
    return;
}

my %came_of_it; # jobs, and partitions by the states in which they ended
my $log_read = 0;
sub read_log {
    my $log = substr slurp_file($node->logfile), $log_read;
    $log_read += length $log;
    for my $line (split /\n/, $log) {
        fault(0, "log: $line") if $line =~ /terminated by signal|PANIC|TRAP|AddressSanitizer|\] XX\d{3} /;
    }
    return;
}

# Ends whatever the calls have started, and looks at what remains.
sub settle {
    my ($code, undef, $error) = $node->psql('postgres', <<'SQL', timeout => 120);
        SELECT backfill_cancel(job) FROM backfill_status WHERE state <> 'canceled';
SQL
    fault(0, "cannot cancel: $error") if $code != 0;
    if (!$node->poll_query_until('postgres',
            'SELECT NOT EXISTS (SELECT FROM backfill_job WHERE NOT tidied)'
                . " AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ '^partbackfill' AND backend_type !~ 'launcher')")) {
        fault(0, 'a job does not end: ' . $node->safe_psql('postgres', 'SELECT job, state, tidied, error FROM backfill_job WHERE NOT tidied'));
    }
    ($code, undef, $error) = $node->psql('postgres', <<'SQL', timeout => 120);
        SELECT backfill_purge(job) FROM backfill_job WHERE EXISTS (SELECT FROM backfill_control AS c WHERE c.job = backfill_job.job AND old_oid IS NOT NULL);
SQL
    fault(0, "cannot purge: $error") if $code != 0;
    # Where sessions are in the way, a worker drops the triggers of partitions whose old rows are gone.
    $node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM backfill_job WHERE NOT tidied)') or fault(0, 'a purge does not end');
    my $bad = $node->safe_psql('postgres', <<'SQL');
        SELECT format('job %s (%s) of %s: %s %s', job, source, target, sqlstate, c.error)
        FROM backfill_control AS c JOIN backfill_job AS j USING (job) WHERE sqlstate LIKE 'XX%';
        SELECT 'LEFT lock ' || l::text FROM pg_locks AS l
        WHERE pid <> pg_backend_pid() AND locktype IN ('relation', 'advisory', 'object');
SQL
    for (split /\n/, $node->safe_psql('postgres', 'SELECT state FROM backfill_control; SELECT $$jobs$$ FROM backfill_job')) {
        $came_of_it{$_}++;
    }
    $node->safe_psql('postgres', 'DELETE FROM backfill_job');
    fault(0, $_) for split /\n/, $bad;
    fault(0, "left behind: $_") for split /\n/, leftovers($node);
    read_log();
    return;
}

# A job that waits for its publication: random calls hardly bring one about.
sub make_ready {
    my @as_owner = (extra_params => [ '-U', 'jo' ]);
    my $job = $node->safe_psql('postgres', "SELECT backfill_start('t', 'truth', publish => 'manual', delay => '0')", @as_owner);
    my $state = $node->safe_psql('postgres', "SELECT backfill_wait($job, '60 s')", @as_owner);
    fault(0, "a job that should be ready is $state") if $state ne 'ready';
    return $job;
}

# Nor do they call these functions in time.
{
    my $job = make_ready();
    $node->safe_psql('postgres', "SELECT backfill_diff_rows($job, 't_1'); SELECT backfill_publish($job); SELECT backfill_revert($job)", extra_params => [ '-U', 'jo' ]);
    settle();
}

my $begun = time;
my $session_count = 0;
while ($number < $calls && @faults < 20) {
    make_ready() if $session_count % 4 == 0;
    my @running;
    for my $i (1 .. $sessions) {
        my $count = $calls - $number < $per_session ? $calls - $number : $per_session;
        push @running, start_session(pick('jo', 'jo', 'postgres', 'stranger'), $count) if $count > 0;
    }
    # Some are interrupted while they are at it.
    my $canceler;
    if (++$session_count % 3 == 0) {
        my $ignored = '';
        $canceler = IPC::Run::start(
            [ 'psql', '-Xqc', <<'SQL', '-h', $node->host, '-p', $node->port, '-U', 'postgres', 'postgres' ], '>', \$ignored, '2>&1');
            DO $$
            BEGIN
                FOR i IN 1 .. 200 LOOP
                    PERFORM pg_stat_clear_snapshot();
                    PERFORM pg_cancel_backend(pid) FROM pg_stat_activity
                    WHERE application_name = 'fuzz' AND state = 'active' AND query ~ 'backfill_' AND random() < 0.5;
                    PERFORM pg_sleep(random() / 50);
                END LOOP;
            END
            $$
SQL
    }
    for my $session (@running) {
        $session->{run}->finish;
        read_session($session);
    }
    $canceler->finish if $canceler;
    last if !-e $node->data_dir . '/postmaster.pid';
    settle();
}

my $uncalled = $node->safe_psql('postgres', <<'SQL');
    SELECT string_agg(p.proname, ' ') FROM pg_proc AS p
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension AS e ON d.refobjid = e.oid AND extname = 'partbackfill'
    LEFT JOIN pg_stat_user_functions AS s ON s.funcid = p.oid
    WHERE COALESCE(s.calls, 0) = 0 AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
SQL
is($uncalled, '', 'every function was called') if $calls >= 5000;
diag(sprintf 'fuzz: %d calls in %.0f s; %s', $number, time - $begun, join ' ', map { "$_=$seen{$_}" } sort keys %seen);
diag("fuzz: $encoding " . join ' ', map { "$_=$came_of_it{$_}" } sort keys %came_of_it);
ok(($came_of_it{done} // 0) > 0, 'some partitions were done') if $calls >= 5000;
is(scalar @faults, 0, 'no fault was found');
diag($_) for map { substr $_, 0, 2000 } @faults;
$node->stop;
done_testing();
