# Every step x every fault: whatever dies, the job goes on where it was, and nothing is left lying around.
#
# A database for each step, so that one fault strikes jobs at every step at once: each is stopped there, by a fault
# point, before it strikes. After it the data are exactly right, the states too, nothing is left behind, and no work
# was lost but that of the step in flight.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# In the order of a partition's life; those before `ready` cost the build.
my @steps = qw(claimed captured created loading indexing analyzing built ready validating auditing swapping swapped tidying ending);
my %before_ready = map { $_ => 1 } qw(claimed captured created loading indexing analyzing built);
# Here the worker has locked the partition's row, for a moment, and whoever controls the job waits for it; or it comes
# here again after a cancel. 032_release.pl has these.
my %locks_row = map { $_ => 1 } qw(created built validating swapping tidying ending);
my $partitions = 4;

sub make_databases {
    my ($node) = @_;
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE source (k int, v text);
        CREATE TABLE parent (k int PRIMARY KEY);
        INSERT INTO parent SELECT generate_series(0, 8000);
        -- With a foreign key that is checked, and by attach with a DEFAULT that a proof is made for.
        CREATE TABLE a (k int PRIMARY KEY REFERENCES parent, v text) PARTITION BY RANGE (k);
        CREATE TABLE a_rest PARTITION OF a DEFAULT;
        INSERT INTO a SELECT k, repeat('x', 100) FROM generate_series(1000, 8000) AS k;
        CREATE TABLE s (k int PRIMARY KEY REFERENCES parent, v text) PARTITION BY RANGE (k);
        SELECT format('CREATE TABLE %s_%s PARTITION OF %1$s FOR VALUES FROM (%3$s) TO (%4$s)', t, n, n * 100, (n + 1) * 100)
        FROM unnest(ARRAY['a', 's']) AS t, generate_series(1, 4) AS n
        \gexec
        CREATE INDEX ON a (v);
        CREATE INDEX ON s (v);
        INSERT INTO a SELECT k, 'old' FROM generate_series(100, 499) AS k;
        INSERT INTO s SELECT k, 'old' FROM generate_series(100, 499) AS k;
SQL
    $node->safe_psql('postgres', "CREATE DATABASE \"$_\" TEMPLATE postgres") for @steps;
    return;
}

# All databases in one go: what the statement gives in each, by step.
sub everywhere {
    my ($node, $statement, @where) = @_;
    my %result;
    for my $step (@where ? @where : @steps) {
        $result{$step} = $node->safe_psql($step, ref $statement ? $statement->($step) : $statement);
    }
    return %result;
}

sub await_in {
    my ($node, $database, $query) = @_;
    $node->poll_query_until($database, $query) or die "waited in vain in $database for: $query";
    return;
}

# The faults: what they do to the workers that stand at their steps. They return the state in which jobs are to end, and
# whether they take the server's memory of workers with them.
my %faults = (
    'kill -9 of a worker' => sub {
        my ($node, $pids) = @_;
        kill_worker($node, $pids->{loading});
        return ('done', 0);
    },
    'pg_terminate_backend' => sub {
        my ($node, $pids) = @_;
        # Their colleagues, too, and all at once: they have the injection point still, and would take the partitions over.
        my $struck = $node->safe_psql('postgres',
            "SELECT string_agg(pid::text, ', ') FROM (SELECT pid FROM pg_stat_activity WHERE backend_type = 'partbackfill worker' OFFSET 0) AS worker
             WHERE pg_terminate_backend(pid)");
        await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($struck)");
        return ('done', 0);
    },
    'immediate stop' => sub {
        my ($node) = @_;
        $node->stop('immediate');
        $node->start;
        return ('done', 1);
    },
    'kill -9 of the postmaster' => sub {
        my ($node) = @_;
        kill_postmaster($node);
        return ('done', 1);
    },
    'fast restart' => sub {
        my ($node) = @_;
        $node->restart;
        return ('done', 1);
    },
    'cancel' => sub {
        my ($node) = @_;
        everywhere($node, 'SELECT backfill_cancel(max(job)) FROM backfill_job', grep { !$locks_row{$_} } @steps);
        return ('canceled', 0);
    },
    'pause and resume' => sub {
        my ($node) = @_;
        my @where = grep { !$locks_row{$_} } @steps;
        everywhere($node, 'SELECT backfill_pause(max(job)) FROM backfill_job', @where);
        my %state = everywhere($node, "SELECT backfill_wait(max(job), '180 s') FROM backfill_job", @where);
        is(join(' ', map { $state{$_} } @where), join(' ', map { 'paused' } @where), 'paused: all jobs rest');
        everywhere($node, 'SELECT backfill_resume(max(job)) FROM backfill_job', @where);
        return ('done', 0);
    });

# One round: a job in each database, by that method, stopped at its step; the fault; and what has become of it.
my $rounds = 0;
sub strike {
    my ($node, $name, $preload, $workers, $table) = @_;
    my $title = "$name, " . ($preload ? 'preloaded' : 'not preloaded') . ", $workers worker(s), table $table";
    my $new = 'new ' . ++$rounds;
    my $round_begun = time;
    my @where = $name =~ /^(?:cancel|pause)/ ? grep { !$locks_row{$_} } @steps : @steps;
    my $old = $node->safe_psql($steps[0], "SELECT v FROM $table WHERE k = 100");
    my $swap = $table eq 'a' ? 'attach' : 'storage';
    everywhere($node, sub {
            my ($step) = @_;
            my $where = $step eq 'ending' ? 'ending' : "$step/2";
            return <<"SQL";
            ALTER DATABASE "$step" SET partbackfill.injection_point = '$where stop';
            TRUNCATE source;
            INSERT INTO source SELECT k, '$new' FROM generate_series(100, 499) AS k;
            SELECT backfill_start('$table', 'source', range_start => '100', range_end => '500', workers => $workers, delay => '0',
                                  swap => '$swap', keep_old => false, max_attempts => 5,
                                  audits => ARRAY['SELECT k FROM {shadow} WHERE v <> ''$new''', 'SELECT k FROM {live} EXCEPT SELECT k FROM {shadow}']);
SQL
    }, @where);
    my %pids;
    for my $step (@where) {
        my $stands = "FROM pg_stat_activity WHERE datname = '$step' AND backend_type = 'partbackfill worker'"
            . " AND query LIKE '%waiting on injection point $step'";
        await_in($node, $step, "SELECT count(*) = 1 $stands");
        $pids{$step} = $node->safe_psql($step, "SELECT pid $stands");
    }
    my %attempts = everywhere($node, 'SELECT string_agg(attempts::text, $$ $$ ORDER BY ordinal) FROM backfill_progress'
            . ' WHERE job = (SELECT max(job) FROM backfill_job)', @where);
    # Those that come after are not to stop.
    $node->safe_psql('postgres', join('; ', map { qq{ALTER DATABASE "$_" RESET partbackfill.injection_point} } @where));
    my ($end, $forgotten) = $faults{$name}->($node, \%pids);
    if ($forgotten && !$preload) {
        my %resumed = everywhere($node, 'SELECT backfill_resume()', @where);
        is(join(' ', map { $resumed{$_} } @where), join(' ', map { 1 } @where), "$title: each job is resumed by hand");
    }
    for my $step (@where) {
        my $job = $node->safe_psql($step, 'SELECT max(job) FROM backfill_job');
        my $what = "$title, at $step";
        is($node->safe_psql($step, "SELECT backfill_wait($job, '180 s')"), $end, "$what: the job is $end") or note
            $node->safe_psql($step, "TABLE backfill_status; SELECT ordinal, state, attempts, worker_pid, waiting_on, error FROM backfill_progress WHERE job = $job");
        # Each partition whole, and as its state says.
        is($node->safe_psql($step, <<"SQL"), '', "$what: the data are exactly right");
            SELECT p.ordinal, p.state, count(r.k), min(r.v), max(r.v)
            FROM backfill_progress AS p
            LEFT JOIN $table AS r ON r.k >= 100 * p.ordinal AND r.k < 100 * (p.ordinal + 1)
            WHERE p.job = $job
            GROUP BY p.ordinal, p.state
            HAVING count(r.k) <> 100 OR min(r.v) <> max(r.v)
                OR min(r.v) <> CASE p.state WHEN 'done' THEN '$new' WHEN 'canceled' THEN '$old' ELSE p.state END;
            SELECT 'an index has lost rows' WHERE (SELECT count(*) FROM $table WHERE v = '$new')
                <> (SELECT 100 * count(*) FROM backfill_progress WHERE job = $job AND state = 'done');
SQL
        check_clean_in($node, $step, $what);
        check_attempts($node, $step, $job, $what, $attempts{$step}, $workers) if $end eq 'done';
    }
    diag("$title: " . (time - $round_begun) . ' s');
    # The next round has to find the same rows everywhere.
    $node->safe_psql($_, "UPDATE $table SET v = '$new' WHERE k BETWEEN 100 AND 499") for @where;
    return;
}

# A build that is under way when the fault strikes is the only one that is made again.
sub check_attempts {
    my ($node, $step, $job, $what, $before, $workers) = @_;
    my @before = split / /, $before;
    my @after = split / /, $node->safe_psql($step,
        "SELECT string_agg((attempts + rebuilds)::text, ' ' ORDER BY ordinal) FROM backfill_progress WHERE job = $job");
    my $most = 0;
    for my $i (0 .. $#after) {
        my $in_flight = $i == 1 ? $before_ready{$step} : $workers > 1;
        $most++ if $after[$i] > 1 + ($in_flight ? 1 : 0);
    }
    is($most, 0, "$what: no work is lost but that of the step in flight") or diag("before: @before, after: @after");
    return;
}

sub check_clean_in {
    my ($node, $database, $title) = @_;
    my $left = leftovers($node, $database);
    $left .= ' a worker' if $node->safe_psql($database, 'CALL await_no_worker(clock_timestamp())') eq '';
    is($left, '', "$title: nothing is left behind");
    return;
}

my @settings = ("partbackfill.crash_pause = '100ms'", 'max_worker_processes = 120', 'restart_after_crash = on');
for my $preload (0, 1) {
    my $node = new_node("faults_$preload", settings => [ @settings, $preload ? "shared_preload_libraries = 'partbackfill'" : () ]);
    make_databases($node);
    for my $workers (1, 3) {
        # Both methods meet every fault, with and without preload.
        my $table = $preload + $workers == 1 || $preload + $workers == 4 ? 'a' : 's';
        strike($node, $_, $preload, $workers, $table) for sort keys %faults;
    }
    $node->stop;
}
done_testing();
