# audits: queries that must give no row before a swap. Whatever else happens, no partition is swapped of which one gives a row,
# and none is kept from its swap otherwise.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('audits', settings => [ "partbackfill.crash_pause = '100ms'", 'restart_after_crash = on' ]);
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    -- Says in the log that an audit was asked.
    CREATE FUNCTION asked() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'an audit was asked'; RETURN true; END $$;
SQL

sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, raw;
        CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199) AS k;
        CREATE TABLE raw AS SELECT k, 'new' AS v FROM t;
        ALTER TABLE raw ADD PRIMARY KEY (k);
SQL
    return;
}

# Starts a job for the table with these audits.
sub start {
    my ($method, $audits, $options, $before) = @_;
    return start_job($node, "'t', 'raw', swap => '$method', delay => '0', keep_old => false, audits => ARRAY[" . join(', ', map { "\$a\$$_\$a\$" } @$audits) . ']'
            . ($options ? ", $options" : ''), $before);
}

# 'state attempts sqlstate' of each partition, in their order.
sub outcome {
    my ($job) = @_;
    return $node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', state, attempts, sqlstate), ', ' ORDER BY ordinal) FROM backfill_progress WHERE job = $job");
}

sub error_in {
    my ($job, $ordinal) = @_;
    return $node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = $ordinal");
}

# How often audits were asked since the last call.
my $log_read = 0;
sub times_asked {
    my $log = slurp_file($node->logfile, $log_read);
    $log_read += length $log;
    return scalar(() = $log =~ /LOG:  an audit was asked/g);
}

sub values_of {
    my ($table) = @_;
    return $node->safe_psql('postgres', "SELECT string_agg(v || ' ' || n, ', ' ORDER BY v) FROM (SELECT v, count(*) AS n FROM $table GROUP BY v) AS s");
}

my $no_bad = q{SELECT k, v FROM {shadow} WHERE v = 'bad' AND asked() ORDER BY k};
my $same_keys = q{SELECT {shadow}.k FROM {live} FULL JOIN {shadow} ON {shadow}.k = {live}.k WHERE {live}.k IS NULL OR {shadow}.k IS NULL};

for my $method (qw(attach storage)) {
    {
        my $title = "$method: one of two partitions fails";
        make_table();
        $node->safe_psql('postgres', q{UPDATE raw SET v = 'bad' WHERE k IN (150, 151)});
        my $before = fingerprint($node, 't_2');
        my $offset = -s $node->logfile;
        my $job = start($method, [ $same_keys, 'SELECT k, NULL::text AS "n u", v FROM {shadow} WHERE v = \'bad\' ORDER BY k' ]);
        is(wait_job($node, $job), 'failed', "$title: so does the job");
        is(outcome($job), 'done 1, failed 1 23514', "$title: the other one is done");
        is(error_in($job, 2), <<"TEXT" =~ s/\n\z//r, "$title: the error has the first row");
audit 2 of partition "public.t_2" returned a row
Detail: The row is (k = 150, n u = NULL, v = bad).
Hint: What was built is kept in schema backfill_${job}_new for a look: backfill_retry($job) builds it anew, backfill_cancel($job) drops it.
TEXT
        my $log = slurp_file($node->logfile, $offset);
        like($log, qr/backfill job $job could not rebuild partition public.t_2 in attempt 1 of 3: audit 2 of partition "public.t_2" returned a row$/m, "$title: the log says so");
        unlike($log, qr/150/, "$title: without the row");
        is(fingerprint($node, 't_2'), $before, "$title: the partition is as it was");
        is(values_of("backfill_${job}_new.t_2"), 'bad 2, new 98', "$title: what was built can be looked at");
        is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%' AND tgrelid = 't_2'::regclass}), '0',
            "$title: writers leave no marks any more");
        my ($code) = error_of($node, 'DROP EXTENSION partbackfill');
        is($code, '55006', "$title: the extension cannot be dropped");
        is($node->safe_psql('postgres', "SELECT backfill_resume($job)"), '0', "$title: there is nothing to resume");

        # Nothing is mended: it is built and fails again.
        is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '1', "$title: it can be tried again");
        is(wait_job($node, $job), 'failed', "$title: and fails again");
        is(outcome($job), 'done 1, failed 1 23514', "$title: in the first attempt");
        # A shadow that a user has made right is built anew all the same.
        $node->safe_psql('postgres', "UPDATE raw SET v = 'mended' WHERE v = 'bad'; UPDATE backfill_${job}_new.t_2 SET v = 'by hand' WHERE v = 'bad'");
        $node->safe_psql('postgres', "SELECT backfill_retry($job)");
        is(wait_job($node, $job), 'done', "$title: once the source is mended it is done");
        is(values_of('t'), 'mended 2, new 198', "$title: with what the source gives");
        is(error_in($job, 2), '', "$title: without an error");
        check_clean($node, $title);
    }
    {
        my $title = "$method: cancel of a job that has failed";
        make_table();
        my $job = start($method, ['SELECT 1 AS one WHERE {range_start} = \'0\''], q{on_error => 'stop'});
        is(wait_job($node, $job), 'failed', "$title: it has failed");
        is(outcome($job), 'failed 1 23514, pending 0', "$title: no other partition is begun");
        is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$title: it is canceled");
        is(wait_job($node, $job), 'canceled', "$title: it has ended");
        check_clean($node, $title);
        is((error_of($node, 'BEGIN; DROP EXTENSION partbackfill; ROLLBACK'))[0], 'none', "$title: the extension could be dropped");
    }
    {
        my $title = "$method: an audit that raises an error";
        make_table();
        my $job = start($method, ['SELECT 1 / (k - 150) FROM {shadow} WHERE k > 100 AND false OR k = 150'], 'max_attempts => 2');
        is(wait_job($node, $job), 'failed', "$title: the job fails");
        is(outcome($job), 'done 1, failed 2 22012', "$title: after all attempts");
        like(error_in($job, 2), qr/^audit 1: division by zero/, "$title: with the error");
        check_clean($node, $title);
    }
    {
        my $title = "$method: rows are written after the audit";
        make_table();
        set_point($node, 'auditing/1 stop');
        times_asked();
        my $job = start($method, [ $no_bad, 'SELECT 1 WHERE NOT asked()' ]);
        await_point($node, $job, 'auditing');
        await_partition($node, $job, 1, q{phase = 'auditing' AND percent >= 98});
        $node->safe_psql('postgres', q{UPDATE t SET v = 'old again' WHERE k = 1; UPDATE raw SET v = 'newer' WHERE k = 1});
        clear_point($node);
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is(figures($node, $job), 'done 2 1, done 1 0', "$title: the partition was built again");
        is(times_asked(), 3, "$title: and audited again");
        is(values_of('t'), 'new 199, newer 1', "$title: the rows are right");
        check_clean($node, $title);
    }
    for my $on_write (qw(rebuild catch_up)) {
        my $title = "$method, $on_write: an audit that sees a write which the shadow does not have";
        make_table();
        set_point($node, 'auditing/1 stop');
        my $job = start($method, [$same_keys], "on_write => '$on_write', lock_timeout => '5 s'");
        await_point($node, $job, 'auditing');
        $node->safe_psql('postgres', q{BEGIN; DELETE FROM raw WHERE k = 3; DELETE FROM t WHERE k = 3; COMMIT});
        clear_point($node);
        is(wait_job($node, $job), 'done', "$title: the job is done") or diag(error_in($job, 1));
        is(figures($node, $job), $on_write eq 'rebuild' ? 'done 2 1, done 1 0' : 'done 1 0, done 1 0', "$title: with the write");
        same_rows($node, 't', 'SELECT k, v FROM raw', "$title: the rows are right");
        check_clean($node, $title);
    }
    {
        my $title = "$method: a swap that has to wait";
        make_table();
        times_asked();
        my $reader = session($node);
        $reader->query_safe('BEGIN; SELECT count(*) FROM t');
        my $job = start($method, ['SELECT 1 WHERE NOT asked()']);
        await_partition($node, $job, 1, 'swap_attempts > 1');
        $reader->query_safe('COMMIT');
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is(times_asked(), 2, "$title: each partition is audited once");
        $reader->quit;
        check_clean($node, $title);
    }
    {
        my $title = "$method: catch_up, nothing is written";
        make_table();
        times_asked();
        my $job = start($method, ['SELECT 1 WHERE NOT asked()'], q{on_write => 'catch_up'});
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is(times_asked(), 2, "$title: each partition is audited once");
        check_clean($node, $title);
    }
    {
        my $title = "$method: catch_up, rows are written after the audit";
        make_table();
        my $write = q{BEGIN; UPDATE raw SET v = '%s' WHERE k IN (7, 9); UPDATE t SET v = '%s' WHERE k IN (7, 9); COMMIT};
        for my $bad (0, 1) {
            my $value = $bad ? 'bad' : 'good';
            set_point($node, 'auditing/1 stop');
            times_asked();
            my $job = start($method, [ $same_keys, $no_bad, 'SELECT 1 WHERE NOT asked()' ], q{on_write => 'catch_up', lock_timeout => '5 s'});
            await_point($node, $job, 'auditing');
            $node->safe_psql('postgres', sprintf $write, $value, $value);
            clear_point($node);
            is(wait_job($node, $job), $bad ? 'failed' : 'done', "$title, $value: the job has ended");
            if ($bad) {
                is(outcome($job), 'failed 1 23514, done 1', "$title: the partition fails");
                like(error_in($job, 1), qr/^audit 2 of partition "public.t_1" returned a row\nDetail: The row is [(]k = 7, v = bad[)]\./, "$title: with the new row");
                is(values_of('t_1'), 'bad 2, new 98', "$title: the partition is as it was");
                $node->safe_psql('postgres', q{UPDATE raw SET v = 'new'});
                $node->safe_psql('postgres', "SELECT backfill_retry($job)");
                is(wait_job($node, $job), 'done', "$title: the retry is done");
                is(values_of('t'), 'new 200', "$title: the rows are right");
            }
            else {
                # By the audit, and under the lock that holds writers.
                is(times_asked(), 3, "$title: it is audited again");
                is(values_of('t'), 'good 2, new 198', "$title: the rows are right");
            }
            check_clean($node, $title);
        }
    }
    {
        my $title = "$method: catch_up, an audit that is too slow for writers";
        make_table();
        set_point($node, 'auditing/1 stop');
        times_asked();
        my $job = start($method, [ 'WITH slept AS MATERIALIZED (SELECT pg_sleep(0.3)) SELECT 1 FROM slept WHERE NOT asked()', $no_bad ],
            q{on_write => 'catch_up', partitions => ARRAY['t_1'::regclass]});
        await_point($node, $job, 'auditing');
        $node->safe_psql('postgres', q{BEGIN; UPDATE raw SET v = 'later' WHERE k = 7; UPDATE t SET v = 'w' WHERE k = 7; COMMIT});
        clear_point($node);
        is(wait_job($node, $job), 'done', "$title: the job is done");
        # The second time under the lock, where it is given up before it ends.
        is(times_asked(), 2, "$title: once writers are let go");
        is(values_of('t_1'), 'later 1, new 99', "$title: the rows are right");
        check_clean($node, $title);

        $title .= ' that go on';
        make_table();
        my $writers = start_clients($node, 1, '-R', '100', '-f', write_script());
        $job = start($method, ['WITH slept AS MATERIALIZED (SELECT pg_sleep(0.3)) SELECT 1 FROM slept WHERE NOT asked()'],
            q{on_write => 'catch_up', swap_patience => '2 s', partitions => ARRAY['t_1'::regclass]});
        is(wait_job($node, $job), 'failed', "$title: the job fails");
        like(error_in($job, 1), qr/^could not catch up with the writers of partition "public.t_1"\nDetail: It was too slow for the audits within lock_timeout for longer than swap_patience\./,
            "$title: with the reason");
        stop_clients($writers);
        $node->safe_psql('postgres', "SELECT backfill_retry($job)");
        is(wait_job($node, $job), 'done', "$title: the retry is done without them");
        same_rows($node, 't_1', 'SELECT k, v FROM raw WHERE k < 100', "$title: the rows are right");
        check_clean($node, $title);
    }
    {
        my $title = "$method: a blocking build";
        make_table();
        times_asked();
        my $job = start($method, [ $same_keys, 'SELECT 1 WHERE NOT asked()' ], q{on_write => 'block'});
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is(times_asked(), 2, "$title: each partition is audited");
        is(values_of('t'), 'new 200', "$title: the rows are right");
        check_clean($node, $title);

        $node->safe_psql('postgres', q{UPDATE raw SET v = 'bad' WHERE k = 150});
        my $before = fingerprint($node, 't_2');
        set_point($node, 'auditing/2 stop');
        $job = start($method, [ $same_keys, $no_bad ], q{on_write => 'block'});
        await_point($node, $job, 'auditing');
        my ($code) = error_of($node, q{SET lock_timeout = '50 ms'; UPDATE t_2 SET v = v WHERE k = 150});
        is($code, '55P03', "$title: writers wait for the audit");
        clear_point($node);
        is(wait_job($node, $job), 'failed', "$title: the job fails");
        is(outcome($job), 'done 1, failed 1 23514', "$title: of one partition");
        is(fingerprint($node, 't_2'), $before, "$title: the partition is as it was");
        is(values_of("backfill_${job}_new.t_2"), 'bad 1, new 99', "$title: what was built can be looked at");
        # A write that no worker may miss: what was built is not swapped.
        $node->safe_psql('postgres', q{UPDATE raw SET v = 'new' WHERE k = 150; UPDATE raw SET v = 'written' WHERE k = 160; UPDATE t SET v = 'w' WHERE k = 160});
        $node->safe_psql('postgres', "SELECT backfill_retry($job)");
        is(wait_job($node, $job), 'done', "$title: the retry is done");
        is(values_of('t'), 'new 199, written 1', "$title: the rows are right");
        check_clean($node, $title);
    }
    for my $on_write (qw(rebuild catch_up block)) {
        my $title = "$method, $on_write: an audit that lasts";
        make_table();
        for my $control (qw(pause cancel)) {
            my $job = start($method, ['SELECT pg_sleep(1000)'], "on_write => '$on_write'");
            my $pid = await_worker($node, $job, q{wait_event = 'PgSleep'});
            is($node->safe_psql('postgres', "SELECT phase FROM backfill_progress WHERE job = $job AND ordinal = 1"), 'auditing', "$title: the view says so");
            is($node->safe_psql('postgres', "SELECT backfill_$control($job)"), 't', "$title: $control");
            is(wait_job($node, $job), $control eq 'pause' ? 'paused' : 'canceled', "$title: $control takes effect");
            if ($control eq 'pause') {
                is(figures($node, $job), $on_write eq 'block' ? 'pending 0 0, pending 0 0' : 'ready 1 0, pending 0 0', "$title: the attempt does not count");
                $node->safe_psql('postgres', "SELECT backfill_resume($job)");
                await_worker($node, $job, q{wait_event = 'PgSleep'});
                $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
                is(wait_job($node, $job), 'canceled', "$title: it goes on, and is canceled");
            }
            check_clean($node, $title);
        }
    }
    {
        my $title = "$method: locks";
        make_table();
        my $held = sub {
            my ($audit) = @_;
            my $job = start($method, [$audit]);
            my $pid = await_worker($node, $job, q{wait_event = 'PgSleep'});
            my $locks = $node->safe_psql('postgres', "SELECT string_agg(relation::regclass || ' ' || mode, ', ' ORDER BY 1) FROM pg_locks"
                    . " WHERE pid = $pid AND relation IN ('t'::regclass, 't_1'::regclass, 'raw'::regclass)");
            $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
            wait_job($node, $job);
            return $locks;
        };
        is($held->('SELECT pg_sleep(1000) FROM {shadow}'), '', "$title: none on the live partition unless it is read");
        is($held->('SELECT pg_sleep(1000) FROM {shadow}, {live}'), 't_1 AccessShareLock', "$title: the weakest otherwise");

        my $locker = session($node);
        $locker->query_safe('BEGIN');
        set_point($node, 'auditing/1 stop');
        my $job = start($method, [$same_keys]);
        await_point($node, $job, 'auditing');
        $locker->query_safe('LOCK TABLE ONLY t_1');
        clear_point($node);
        await_partition($node, $job, 1, q{waiting_on LIKE 'lock (held by %'});
        is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE relation = 't_1'::regclass AND NOT granted}), '0', "$title: nobody stands in the queue");
        $locker->query_safe('COMMIT');
        $locker->quit;
        is(wait_job($node, $job), 'done', "$title: the job is done once the partition is free");
        check_clean($node, $title);
    }
    {
        my $title = "$method: an audit that gives up the session's locks";
        make_table();
        my $before = fingerprint($node, 't_1');
        my $job = start($method, ['SELECT 1 WHERE pg_advisory_unlock_all() IS NULL'], q{max_attempts => 2, partitions => ARRAY['t_1'::regclass]});
        is(wait_job($node, $job), 'failed', "$title: the job fails");
        is(fingerprint($node, 't_1'), $before, "$title: nothing is swapped without a claim");
        $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
        is(wait_job($node, $job), 'canceled', "$title: the job is canceled");
        check_clean($node, $title);
    }
}

# A worker that dies of each audit stops at max_attempts.
{
    my $title = 'an audit of which the worker dies';
    make_table();
    $node->safe_psql('postgres', q{CREATE FUNCTION terminate() RETURNS boolean LANGUAGE sql AS 'SELECT pg_terminate_backend(pg_backend_pid())'});
    my $job = start('attach', ['SELECT 1 WHERE NOT terminate()'], q{max_attempts => 2, partitions => ARRAY['t_1'::regclass]});
    is(wait_job($node, $job), 'failed', "$title: the job fails");
    like(error_in($job, 1), qr/^the worker that swapped partition "public.t_1" ended in try/, "$title: and says why");
    is(values_of('t_1'), 'old 100', "$title: the partition is as it was");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($node, $job);
    check_clean($node, $title);
}

sub write_script {
    my $script = "$PostgreSQL::Test::Utils::tmp_check/write.pgbench";
    append_to_file($script, <<'SQL') if !-e $script;
\set k random(0, 99)
BEGIN;
UPDATE raw SET v = 'w' || :client_id WHERE k = :k;
UPDATE t SET v = 'w' WHERE k = :k;
COMMIT;
SQL
    return $script;
}

$node->stop;
done_testing();
