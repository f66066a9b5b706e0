# What goes on beside the passes that catch up with a partition, and beside its swap: writers that begin before a pass and
# end after it, commands that control the job, locks, a crash of unlogged partitions, and writers that are faster.
use strict;
use warnings;

use Backfill;
use CatchUp;
use Test::More;

my $node = new_node('beside', settings => ["partbackfill.crash_pause = '100ms'"]);
my $holder = session($node);

# A table of so many partitions, and what its rows are made from; write() changes both.
sub make_table {
    my ($partitions, $kind) = @_;
    $node->safe_psql('postgres', "SET client_min_messages = warning; DROP TABLE IF EXISTS t, raw;"
            . 'CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k); CREATE TABLE raw (k int PRIMARY KEY, v text)');
    $node->safe_psql('postgres', 'CREATE ' . ($kind // '') . " TABLE t_$_ PARTITION OF t FOR VALUES FROM ($_ * 100 - 100) TO ($_ * 100)") for 1 .. $partitions;
    $node->safe_psql('postgres', "INSERT INTO t SELECT k, 'old' FROM generate_series(0, $partitions * 100 - 1, 2) AS k; INSERT INTO raw SELECT k, 'new' FROM t");
    return;
}

my $write = sub {
    my ($k, $v) = @_;
    return "INSERT INTO t VALUES ($k, '$v') ON CONFLICT (k) DO UPDATE SET v = '$v'; INSERT INTO raw VALUES ($k, 'from $v') ON CONFLICT (k) DO UPDATE SET v = 'from $v';";
};

# start($method, $options, $point): a job with writes during its build, which stands at that point of its first partition.
sub start {
    my ($method, $options, $point) = @_;
    set_point($node, "$point/1 stop") if $point;
    close_gate($holder, 1);
    my $job = start_job($node, "'t', 'SELECT * FROM raw WHERE pass_gate(1)', swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false"
            . ($options ? ", $options" : ''));
    await_at_gate($node, 1);
    $node->safe_psql('postgres', $write->(1, 'early') . 'DELETE FROM t WHERE k = 2; DELETE FROM raw WHERE k = 2');
    open_gate($holder, 1);
    await_point($node, $job, $point) if $point;
    return $job;
}

# As start(), for a job that has too little patience for a gate.
sub start_impatient {
    my ($method, $options, $point) = @_;
    set_point($node, 'built/1 stop');
    my $job = start_job($node, "'t', 'raw', swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false, $options");
    await_point($node, $job, 'built');
    $node->safe_psql('postgres', $write->(1, 'early') . 'DELETE FROM t WHERE k = 2; DELETE FROM raw WHERE k = 2');
    set_point($node, "$point/1 stop");
    await_point($node, $job, $point);
    return $job;
}

sub check_done {
    my ($title, $job, $figures) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is(figures($node, $job), $figures // 'done 1 0', "$title: nothing was built again");
    same_rows($node, 't', 'TABLE raw', "$title: the rows are right");
    check_clean($node, $title);
    return;
}

for my $method (qw(attach storage)) {
    #
    # Writers across a pass
    #
    {
        my $title = "$method: writers across a pass";
        make_table(1);
        my @writers = map { session($node) } 1 .. 3;
        my $job = start($method, q{lock_timeout => '10 s'}, 'catching_up');
        $writers[0]->query_safe('BEGIN;' . $write->(3, 'before the pass commits'));
        $node->safe_psql('postgres', $write->(4, 'meanwhile'));
        set_point($node, 'converged/1 stop');
        await_point($node, $job, 'converged');
        $writers[1]->query_safe('BEGIN;' . $write->(5, 'after the last pass'));
        $writers[1]->query_safe('COMMIT');
        $writers[2]->query_safe('BEGIN;' . $write->(6, 'when the swap comes'));
        my $pids = join('|', map { $_->query_safe('SELECT pg_backend_pid()') } @writers[ 0, 2 ]);
        clear_point($node);
        # The swap waits, and nobody behind it.
        await($node, "SELECT count(*) > 0 FROM backfill_progress WHERE job = $job AND waiting_on ~ '^lock .held by ($pids)'");
        $node->safe_psql('postgres', q{SET lock_timeout = '5 s';} . $write->(7, 'passes the waiting swap'));
        is($node->safe_psql('postgres', q{SET lock_timeout = '5 s'; SELECT count(*) FROM t WHERE v = 'meanwhile'}), '1', "$title: readers pass");
        $writers[0]->query_safe($write->(8, 'late') . 'COMMIT');
        $writers[2]->query_safe($write->(9, 'taken back') . 'ROLLBACK');
        check_done($title, $job);
        is($node->safe_psql('postgres', q{SELECT string_agg(v, ', ' ORDER BY k) FROM t WHERE k < 10 AND k % 2 = 1}),
            'from early, from before the pass commits, from after the last pass, from passes the waiting swap', "$title: every write is there");
        $_->quit for @writers;
    }

    #
    # Locks
    #
    {
        my $title = "$method: locks";
        make_table(1);
        my $job = start($method, q{lock_timeout => '60 s'}, 'catching_up');
        my $locks = sub {
            my ($where) = @_;
            return $node->safe_psql('postgres', "SELECT string_agg(DISTINCT format('%s %s', relation::regclass, mode), ', ' ORDER BY format('%s %s', relation::regclass, mode))"
                    . " FROM pg_locks WHERE pid = (SELECT worker_pid FROM backfill_progress WHERE job = $job AND ordinal = 1) AND locktype = 'relation' AND granted"
                    . " AND relation IN ('t'::regclass, 't_1'::regclass, 't_1_pkey'::regclass) AND $where");
        };
        is($locks->(q{mode NOT IN ('AccessShareLock', 'RowShareLock')}), '', "$title: a pass keeps no writer out");
        $node->safe_psql('postgres', q{SET lock_timeout = '5 s';} . $write->(11, 'during a pass') . 'SELECT count(*) FROM t');
        $node->safe_psql('postgres', q{SET lock_timeout = '5 s'; VACUUM t; ANALYZE t});
        set_point($node, 'caught_up/1 stop');
        await_point($node, $job, 'caught_up');
        is($locks->(q{mode NOT IN ('AccessShareLock', 'RowShareLock')}), $method eq 'attach' ? 't ExclusiveLock, t_1 ExclusiveLock' : 't_1 ExclusiveLock',
            "$title: the last rows are refreshed while writers are kept out");
        is($node->safe_psql('postgres', q{SET lock_timeout = '5 s'; SELECT count(*) FROM t WHERE k >= 0}), '51', "$title: readers pass");
        is((error_of($node, q{SET lock_timeout = '200 ms'; } . $write->(13, 'no')))[0], '55P03', "$title: writers wait");
        clear_point($node);
        check_done($title, $job);
    }

    #
    # Commands
    #
    for my $point (qw(catching_up converged)) {
        my $title = "$method: pause at $point";
        make_table(2);
        my $job = start($method, q{lock_timeout => '10 s'}, $point);
        $node->safe_psql('postgres', "SELECT backfill_pause($job)");
        is(wait_job($node, $job), 'paused', "$title: it rests");
        is(figures($node, $job), 'ready 1 0, pending 0 0', "$title: with what was built");
        clear_point($node);
        $node->safe_psql('postgres', $write->(21, 'while it rests') . $write->(1, 'again') . 'DELETE FROM t WHERE k = 4; DELETE FROM raw WHERE k = 4;' . $write->(121, 'elsewhere'));
        $node->safe_psql('postgres', "SELECT backfill_resume($job)");
        check_done($title, $job, 'done 1 0, done 1 0');

        $title = "$method: cancel at $point";
        make_table(2);
        $job = start($method, q{lock_timeout => '10 s'}, $point);
        my $before = fingerprint($node, 't_1');
        cancel_job($node, $job);
        is(wait_job($node, $job), 'canceled', "$title: it has ended");
        is(fingerprint($node, 't_1'), $before, "$title: the partition is as it was");
        check_clean($node, $title);
        clear_point($node);
    }
    {
        my $title = "$method: retry";
        make_table(1);
        my $writer = session($node);
        my $job = start_impatient($method, q{lock_timeout => '200 ms', swap_patience => '500 ms'}, 'converged');
        $writer->query_safe('BEGIN;' . $write->(31, 'in the way'));
        clear_point($node);
        is(wait_job($node, $job), 'failed', "$title: a writer that stays is in the way for longer than swap_patience");
        is($node->safe_psql('postgres', "SELECT state, sqlstate, attempts FROM backfill_progress WHERE job = $job"), 'failed|55P03|1', "$title: and says so");
        $writer->query_safe('COMMIT');
        $node->safe_psql('postgres', $write->(33, 'while it had failed'));
        $node->safe_psql('postgres', "SELECT backfill_retry($job)");
        check_done($title, $job);
        $writer->quit;
    }

    #
    # Options
    #
    for my $options (q{lock_timeout => '0'}, q{swap_patience => '0'}, q{lock_timeout => '0', swap_patience => '0'}) {
        my $title = "$method: $options";
        make_table(1);
        my $job = start_impatient($method, $options, 'converged');
        $node->safe_psql('postgres', $write->(41, 'at last'));
        clear_point($node);
        my $state = wait_job($node, $job);
        # A moment that is too short for the swap is tried again, by hand when the job has no patience.
        for (1 .. 20) {
            last if $state ne 'failed';
            $node->safe_psql('postgres', "SELECT backfill_retry($job)");
            $state = wait_job($node, $job);
        }
        check_done($title, $job);
    }

    #
    # Many at a time
    #
    {
        my $title = "$method: six partitions, three workers";
        make_table(6);
        close_gate($holder, 1);
        my $job = start_job($node, "'t', 'SELECT * FROM raw WHERE pass_gate(1)', swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false, workers => 3, lock_timeout => '2 s'");
        await($node, q{SELECT count(*) >= 3 FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, 1, 1) AND NOT granted});
        $node->safe_psql('postgres', join(' ', map { $write->(100 * $_ + 1, 'w') . "DELETE FROM t WHERE k = 100 * $_ + 4; DELETE FROM raw WHERE k = 100 * $_ + 4;" } 0 .. 5)
                . ' BEGIN; UPDATE t SET k = k + 101 WHERE k IN (10, 110, 310, 410); UPDATE raw SET k = k + 101 WHERE k IN (10, 110, 310, 410); COMMIT');
        open_gate($holder, 1);
        check_done($title, $job, join(', ', ('done 1 0') x 6));
    }

    #
    # Unlogged partitions
    #
    for my $crash (0, 1) {
        my $title = "$method: unlogged" . ($crash ? ', and a crash' : '');
        make_table(1, 'UNLOGGED');
        my $job = start($method, q{lock_timeout => '10 s'}, 'converged');
        $node->safe_psql('postgres', $write->(51, 'w'));
        set_point($node, '') if !$crash;
        if ($crash) {
            $node->safe_psql('postgres', q{ALTER SYSTEM SET partbackfill.injection_point = ''});
            $holder->quit;
            $node->stop('immediate');
            $node->start;
            $holder = session($node);
            is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', "$title: its rows are gone");
            # They are made anew by hand.
            $node->safe_psql('postgres', q{INSERT INTO t SELECT k, 'again' FROM raw;} . $write->(53, 'w') . 'SELECT backfill_resume()');
        }
        is(wait_job($node, $job), 'done', "$title: the job is done");
        same_rows($node, 't', 'TABLE raw', "$title: the rows are right");
        check_clean($node, $title);
    }
}

$holder->quit;
$node->stop;
done_testing();
