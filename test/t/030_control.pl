# A job that is paused and resumed, and retried; and what keeps its extension from being dropped.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('control');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE PROCEDURE make_table(name text) LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TABLE %I (k int PRIMARY KEY, v text) PARTITION BY RANGE (k)', name);
        FOR n IN 1 .. 4 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', name || '_' || n, name,
                           n * 100, (n + 1) * 100);
        END LOOP;
        EXECUTE format('INSERT INTO %I SELECT g, %L FROM generate_series(100, 499) AS g', name, 'old');
    END
    $$;
    CREATE TABLE new AS SELECT g AS k, 'new'::text AS v FROM generate_series(100, 499) AS g;
SQL

sub make_table {
    my ($table) = @_;
    $node->safe_psql('postgres', "CALL make_table('$table')");
    return;
}

# How many rows are old and new: '100 old, 300 new'.
sub rows_of {
    my ($table) = @_;
    return $node->safe_psql('postgres',
        "SELECT string_agg(count || ' ' || v, ', ' ORDER BY v DESC) FROM (SELECT v, count(*) FROM $table GROUP BY v) AS c");
}

sub one {
    my ($query) = @_;
    return $node->safe_psql('postgres', $query);
}

sub guards_of {
    my ($table) = @_;
    return one("SELECT string_agg(DISTINCT tgrelid::regclass::text, ' ') FROM pg_trigger"
            . " WHERE tgname LIKE 'partbackfill_guard%' AND tgrelid::regclass::text LIKE '$table\\_%'");
}

# A source that is held up from key $from on.
sub held_from { my ($from) = @_; return "SELECT * FROM new WHERE CASE WHEN k < $from THEN true ELSE pass_gate(1) END"; }

#
# Pause and resume
#
{
    my $title = 'a pause in a build';
    make_table('paused');
    close_gate($holder, 1);
    my $job = start_job($node, q{'paused', '} . held_from(200) . q{', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    is(one("SELECT backfill_pause($job)"), 't', "$title: the job is paused");
    is(wait_job($node, $job), 'paused', "$title: it rests");
    is(states($node, $job), 'done pending pending pending', "$title: its partition is pending again");
    is(one("SELECT attempts FROM backfill_progress WHERE job = $job AND ordinal = 2"), '0', "$title: the attempt does not count");
    is(one("SELECT count(*) FROM backfill_status WHERE job = $job AND finished_at IS NULL AND state = 'paused'"), '1',
        "$title: it has not ended");
    is(rows_of('paused'), '300 old, 100 new', "$title: what was done stays done");
    check_clean($node, $title);
    is(one("SELECT backfill_pause($job)"), 'f', "$title: a paused job is not paused again");
    my ($code, $message) = error_of($node, "SELECT backfill_start('paused', 'new')");
    is($code, '55006', "$title: its partitions stay its own");
    open_gate($holder, 1);
    is(one("SELECT backfill_resume($job)"), '1', "$title: it is resumed");
    is(wait_job($node, $job), 'done', "$title: and done");
    is(rows_of('paused'), '400 new', "$title: all of it");
    is(one("SELECT max(attempts) FROM backfill_progress WHERE job = $job"), '1', "$title: no partition had two attempts");
    is(one("SELECT backfill_resume($job)"), '0', "$title: there is nothing left to resume");
    check_clean($node, $title);
}
{
    my $title = 'a pause while a swap waits';
    make_table('ready');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM ready');
    my $job = start_job($node, q{'ready', 'new', partitions => '{ready_1}', delay => '0', keep_old => false});
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    is(one("SELECT backfill_pause($job)"), 't', "$title: the job is paused");
    is(wait_job($node, $job), 'paused', "$title: it rests");
    is(states($node, $job), 'ready', "$title: what is built stays");
    is(guards_of('ready'), 'ready_1', "$title: and is watched");
    $reader->query_safe('COMMIT');
    is(rows_of('ready'), '400 old', "$title: it is not swapped");
    is(one("SELECT backfill_resume()"), '1', "$title: all that can be resumed is");
    is(wait_job($node, $job), 'done', "$title: it is done");
    is(one("SELECT attempts FROM backfill_progress WHERE job = $job"), '1', "$title: it was built once");
    is(rows_of('ready'), '300 old, 100 new', "$title: and swapped");
    check_clean($node, $title);

    # What is written meanwhile is noticed.
    $reader->query_safe('BEGIN; SELECT count(*) FROM ready');
    $job = start_job($node, q{'ready', 'ready', partitions => '{ready_2}', delay => '0', keep_old => false});
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    is(one("SELECT backfill_pause($job)"), 't', "$title, written to: paused");
    is(wait_job($node, $job), 'paused', "$title, written to: it rests");
    $reader->query_safe('COMMIT');
    $reader->quit;
    one("UPDATE ready SET v = 'own' WHERE k = 250");
    one("SELECT backfill_resume($job)");
    is(wait_job($node, $job), 'done', "$title, written to: it is done");
    is(one("SELECT rebuilds FROM backfill_progress WHERE job = $job"), '1', "$title, written to: it was built again");
    is(one("SELECT v FROM ready WHERE k = 250"), 'own', "$title, written to: nothing is lost");
    check_clean($node, $title);
}
{
    my $title = 'a paused job that is canceled';
    make_table('dropped');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM dropped');
    my $job = start_job($node, q{'dropped', 'new', partitions => '{dropped_1}', delay => '0', keep_old => false});
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    one("SELECT backfill_pause($job)");
    is(wait_job($node, $job), 'paused', "$title: it rests");
    $reader->query_safe('COMMIT');
    $reader->quit;
    is(one("SELECT backfill_cancel($job)"), 't', "$title: it is canceled");
    is(wait_job($node, $job), 'canceled', "$title: for good");
    is(states($node, $job), 'canceled', "$title: and its partition");
    is(one("SELECT backfill_resume($job)"), '0', "$title: it cannot be resumed");
    check_clean($node, $title);
}
{
    my $title = 'pause, resume, pause, resume at once';
    make_table('quick');
    close_gate($holder, 1);
    my $job = start_job($node, q{'quick', '} . held_from(200) . q{', delay => '0', workers => 2, keep_old => false});
    await_at_gate($node, 1);
    for (1 .. 5) {
        is(one("SELECT backfill_pause($job)"), 't', "$title: paused");
        is(one("SELECT backfill_resume($job)"), '1', "$title: resumed");
    }
    await_at_gate($node, 1);
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: it is done");
    is(rows_of('quick'), '400 new', "$title: all of it");
    check_clean($node, $title);
}
{
    my $title = 'a pause that is rolled back';
    make_table('undone');
    close_gate($holder, 1);
    my $job = start_job($node, q{'undone', '} . held_from(100) . q{', delay => '0', max_attempts => 1, keep_old => false});
    my $pid = await_at_gate($node, 1);
    is(one("BEGIN; SELECT backfill_pause($job); ROLLBACK"), 't', "$title: it says what it would do");
    is(worker_pid($node, $job, 1), $pid, "$title: the job goes on");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: and is done");
    check_clean($node, $title);
}

#
# Retry
#
{
    my $title = 'a retry of what failed to build';
    make_table('failing');
    one('CREATE TABLE sick AS SELECT k, CASE WHEN k = 250 THEN NULL ELSE v END AS v, k = 250 AS bad FROM new');
    my $job = start_job($node,
        q{'failing', 'SELECT k, CASE WHEN bad THEN (1 / (k - k))::text ELSE ''new'' END AS v FROM sick', delay => '0', max_attempts => 1,}
            . q{ keep_old => false});
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    is(states($node, $job), 'done failed done done', "$title: in one partition");
    check_clean($node, $title);
    one('UPDATE sick SET bad = false');
    is(one("SELECT backfill_retry($job)"), '1', "$title: it is queued again");
    is(wait_job($node, $job), 'done', "$title: and done");
    is(one("SELECT attempts, sqlstate IS NULL, error IS NULL FROM backfill_progress WHERE job = $job AND ordinal = 2"), '1|t|t',
        "$title: with all its attempts");
    is(one("SELECT error IS NULL FROM backfill_status WHERE job = $job"), 't', "$title: its error is gone");
    is(rows_of('failing'), '400 new', "$title: all rows are new");
    is(one("SELECT backfill_retry($job)"), '0', "$title: nothing is left to retry");
    check_clean($node, $title);
}
{
    my $title = 'a retry of what failed to swap';
    make_table('stuck');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM stuck');
    my $job = start_job($node,
        q{'stuck', 'new', partitions => '{stuck_1,stuck_2}', delay => '0', swap_patience => '0', keep_old => false});
    is(wait_job($node, $job), 'failed', "$title: it had no patience");
    is(states($node, $job), 'failed failed', "$title: both partitions");
    is(guards_of('stuck'), 'stuck_1 stuck_2', "$title: what is built is kept and watched");
    like(one("SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 1"),
        qr/^could not lock partition "public\.stuck_1"\n.*\nHint: What was built is kept: backfill_retry\($job\) swaps it/,
        "$title: the hint says so");
    my ($code, $message) = error_of($node, 'DROP EXTENSION partbackfill CASCADE');
    is($code, '55006', "$title: the extension stays");
    $reader->query_safe('COMMIT');
    $reader->quit;
    my $built = one("SELECT max(build_time) FROM backfill_progress WHERE job = $job");
    is(one("SELECT backfill_retry($job)"), '2', "$title: both are queued again");
    is(wait_job($node, $job), 'done', "$title: and done");
    is(one("SELECT string_agg(attempts || ' ' || rebuilds, ', ') FROM backfill_progress WHERE job = $job"), '1 0, 1 0',
        "$title: nothing was built again");
    is(rows_of('stuck'), '200 old, 200 new', "$title: their rows are new");
    check_clean($node, $title);
}
{
    my $title = 'what failed to swap is canceled';
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM stuck');
    my $job = start_job($node, q{'stuck', 'new', partitions => '{stuck_3}', delay => '0', swap_patience => '0', keep_old => false});
    is(wait_job($node, $job), 'failed', "$title: it had no patience");
    my ($code, $message) = error_of($node, q{SELECT backfill_start('stuck', 'new', partitions => '{stuck_3}')});
    is($code, '55006', "$title: no other job on its partition meanwhile");
    $reader->query_safe('COMMIT');
    $reader->quit;
    is(one("SELECT backfill_cancel($job)"), 't', "$title: it is canceled");
    is(wait_job($node, $job), 'canceled', "$title: and tidied");
    is(states($node, $job), 'failed', "$title: its partition has failed all the same");
    ($code, $message) = error_of($node, "SELECT backfill_retry($job)");
    is($code, '55000', "$title: no retry after that");
    check_clean($node, $title);
}
{
    my $title = 'what failed to be built is in another job';
    my $job = start_job($node, q{'stuck', 'SELECT k, (1 / (k - k))::text AS v FROM stuck', partitions => '{stuck_3}', delay => '0', max_attempts => 1, keep_old => false});
    is(wait_job($node, $job), 'failed', "$title: it has failed");
    close_gate($holder, 1);
    my $other = start_job($node, q{'stuck', '} . held_from(200) . q{', partitions => '{stuck_3}', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    my ($code, $message) = error_of($node, "SELECT backfill_retry($job)");
    is($code, '55006', "$title: no retry meanwhile");
    like($message, qr/^a partition of backfill job $job is in another unfinished job\n/, "$title: the reason");
    open_gate($holder, 1);
    is(wait_job($node, $other), 'done', "$title: the other is done");
    is(one("SELECT backfill_cancel($job)"), 't', "$title: it is canceled");
    is(wait_job($node, $job), 'canceled', "$title: and tidied");
    check_clean($node, $title);
}
{
    my $title = 'on_error => stop';
    one('UPDATE sick SET bad = k = 250');
    my $job = start_job($node,
        q{'failing', 'SELECT k, CASE WHEN bad THEN (1 / (k - k))::text ELSE ''newer'' END AS v FROM sick', delay => '0', max_attempts => 1,}
            . q{ on_error => 'stop', keep_old => false});
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    is(states($node, $job), 'done failed pending pending', "$title: no further partition was begun");
    check_clean($node, $title);
    one('UPDATE sick SET bad = false');
    is(one("SELECT backfill_retry($job)"), '1', "$title: the failed one is queued again");
    is(wait_job($node, $job), 'done', "$title: all are done");
    is(rows_of('failing'), '400 newer', "$title: all rows are new");
    check_clean($node, $title);
}

{
    my $title = 'a retry that meets a cancel';
    one('UPDATE sick SET bad = k = 150');
    make_table('raced');
    close_gate($holder, 1);
    my $job = start_job($node, q{'raced', 'SELECT k, CASE WHEN bad THEN (1 / (k - k))::text ELSE ''new'' END AS v FROM sick}
            . q{ WHERE CASE WHEN k < 200 THEN true ELSE pass_gate(1) END', delay => '0', max_attempts => 1, keep_old => false});
    await_at_gate($node, 1);
    one("SELECT backfill_pause($job)");
    is(wait_job($node, $job), 'paused', "$title: paused, with a failed partition");
    is(states($node, $job), 'failed pending pending pending', "$title: the states");
    my $canceler = session($node);
    $canceler->query_safe("BEGIN; SELECT backfill_cancel($job)");
    my $retrier = session($node);
    my $pid = $retrier->query_safe('SELECT pg_backend_pid()');
    $retrier->query_until(qr/begun/, "\\echo begun\nSELECT backfill_retry($job);\n");
    await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
    $canceler->query_safe('COMMIT');
    is(wait_job($node, $job), 'canceled', "$title: it is canceled");
    $_->quit for $canceler, $retrier;
    is(states($node, $job), 'failed canceled canceled canceled', "$title: nothing is queued");
    open_gate($holder, 1);
    check_clean($node, $title);
}
{
    my $title = 'a retry that meets the end';
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = 'ending stop'");
    $node->reload;
    my $job = start_job($node,
        q{'raced', 'SELECT k, CASE WHEN bad THEN (1 / (k - k))::text ELSE ''new'' END AS v FROM sick', delay => '0', max_attempts => 1,}
            . q{ keep_old => false});
    await_worker($node, $job, "query LIKE '%injection point ending'");
    one('UPDATE sick SET bad = false');
    is(one("SELECT backfill_retry($job)"), '1', "$title: it is queued again");
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = ''");
    $node->reload;
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is(states($node, $job), 'done done done done', "$title: all of it");
    is(rows_of('raced'), '400 new', "$title: all rows are new");
    check_clean($node, $title);
}
{
    my $title = 'a cancel while the last worker leaves';
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = 'leaving stop'");
    $node->reload;
    my $job = start_job($node, q{'raced', 'SELECT k, (1 / (k - k))::text AS v FROM new', delay => '0', max_attempts => 1, keep_old => false});
    await_worker($node, $job, "query LIKE '%injection point leaving'");
    is(one("SELECT state FROM backfill_status WHERE job = $job"), 'failed', "$title: the job has ended");
    my $caller = session($node);
    my $pid = $caller->query_safe('SELECT pg_backend_pid()');
    $caller->query_until(qr/begun/, "\\echo begun\nSELECT backfill_cancel($job);\n");
    # Until the worker is none of the job's: a cancel that met it there would start no other one, and this one looks no more.
    await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = ''");
    $node->reload;
    await($node, "SELECT state = 'canceled' AND finished_at IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'partbackfill worker')"
            . " FROM backfill_status WHERE job = $job");
    pass("$title: it is tidied up");
    $caller->quit;
    check_clean($node, $title);
}
{
    my $title = 'a shadow that somebody depends on';
    make_table('used');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM used');
    my $job = start_job($node, q{'used', 'new', partitions => '{used_1,used_2}', delay => '0', keep_old => false});
    await($node, "SELECT count(*) = 2 FROM backfill_progress WHERE job = $job AND state = 'ready'");
    one("CREATE VIEW hanging AS SELECT * FROM backfill_${job}_new.used_1");
    is(one("SELECT backfill_cancel($job)"), 't', "$title: it is canceled");
    $reader->query_safe('COMMIT');
    $reader->quit;
    is(wait_job($node, $job), 'canceled', "$title: and rests");
    like(one("SELECT error FROM backfill_status WHERE job = $job"), qr/^could not tidy up: cannot drop table backfill_${job}_new\.used_1 /,
        "$title: it says what it could not drop");
    is(one("SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'backfill_${job}_new'::regnamespace AND relkind = 'r'"),
        'used_1', "$title: all else is gone");
    is(guards_of('used') // '', '', "$title: nobody is watched");
    one('DROP VIEW hanging');
    one("DROP SCHEMA backfill_${job}_new CASCADE");
    one("DROP SCHEMA IF EXISTS backfill_${job}_old CASCADE");
    check_clean($node, $title);
}
{
    my $title = 'a role that becomes another one';
    $node->safe_psql('postgres', <<'SQL');
        CREATE ROLE app LOGIN;
        CREATE ROLE other;
        GRANT other TO app;
        GRANT CREATE ON SCHEMA public TO app;
        GRANT SELECT ON new TO app;
        CALL make_table('mine');
        DO $$ BEGIN FOR n IN 1 .. 4 LOOP EXECUTE format('ALTER TABLE mine_%s OWNER TO app', n); END LOOP; END $$;
        ALTER TABLE mine OWNER TO app;
        ALTER ROLE app SET role = 'other';
SQL
    my $job = start_job($node, q{'mine', 'new', delay => '0', keep_old => false}, 'SET SESSION AUTHORIZATION app; SET ROLE NONE');
    is(wait_job($node, $job), 'done', "$title: its job is done as the role that started it");
    check_clean($node, $title);
}

#
# The extension stays while it has work
#
{
    my $title = 'DROP EXTENSION';
    make_table('kept');
    close_gate($holder, 1);
    my $job = start_job($node, q{'kept', '} . held_from(100) . q{', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    my $text = qq{cannot drop extension "partbackfill" because backfill job $job is unfinished\n}
        . qq{DETAIL:  Its state is "running".\n}
        . qq{HINT:  End it with backfill_cancel($job), or wait for it with backfill_wait($job).\n};
    for my $statement ('DROP EXTENSION partbackfill', 'DROP EXTENSION partbackfill CASCADE', 'DROP SCHEMA public CASCADE',
        'DROP OWNED BY CURRENT_USER CASCADE') {
        my ($code, $message) = error_of($node, $statement);
        is($code, '55006', "$title: refused: $statement");
        like($message, qr/^\Q$text\E/, "$title: $statement: the text");
    }
    one('DROP SCHEMA IF EXISTS elsewhere CASCADE');
    one("SELECT backfill_cancel($job)");
    is(wait_job($node, $job), 'canceled', "$title: canceled");
    open_gate($holder, 1);
    check_clean($node, $title);
    one('DROP EXTENSION partbackfill');
    one('CREATE EXTENSION partbackfill');
    pass("$title: not any more when all jobs have ended");
}

$holder->quit;
$node->stop;
done_testing();
