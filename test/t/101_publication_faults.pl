# What may come between a job that is built and its publication: each ends the publication with a clear word, and never with a lost
# row, a crash, or a session that waits for the job without need.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('publication_faults', settings => [ "partbackfill.crash_pause = '50ms'", 'restart_after_crash = on' ]);

# Five partitions of ten rows, one of them a DEFAULT.
sub make_table {
    my ($columns) = @_;
    $node->safe_psql('postgres', <<"SQL");
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, t_1, t_2, t_3, t_4, raw, ref;
        CREATE TABLE ref (id int PRIMARY KEY);
        INSERT INTO ref SELECT generate_series(0, 99);
        CREATE TABLE t (k int PRIMARY KEY @{[$columns // '']}, v text NOT NULL) PARTITION BY RANGE (k);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, (i - 1) * 10, i * 10) FROM generate_series(1, 4) AS i
        \\gexec
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 49) AS k;
        CREATE TABLE raw AS SELECT k FROM t;
        ALTER TABLE raw ADD PRIMARY KEY (k);
SQL
    return;
}

sub start_manual {
    my ($arguments) = @_;
    my $job = start_job($node, "'t', \$\$SELECT k, 'new'::text AS v FROM raw\$\$, delay => '0', keep_old => false, publish => 'manual', $arguments");
    return $job;
}

sub start_ready {
    my ($arguments, $title) = @_;
    my $job = start_manual($arguments);
    is(wait_job($node, $job), 'ready', "$title: ready");
    return $job;
}

# backfill_publish() in a session of its own.
sub publish_beside {
    my ($job) = @_;
    my $session = session($node);
    $session->query_until(qr/begun/, "\\echo begun\nSELECT backfill_publish($job);\n");
    return $session;
}

#
# An event trigger that writes to one partition while another is exchanged
#
for my $on_write (qw(catch_up rebuild)) {
    my $title = "an event trigger, $on_write";
    make_table();
    $node->safe_psql('postgres', <<'SQL');
        DROP TABLE t_4;
        CREATE TABLE t_4 PARTITION OF t FOR VALUES FROM (1000) TO (2000);
        DELETE FROM raw WHERE k BETWEEN 30 AND 39;
        CREATE SEQUENCE written START 1000 MAXVALUE 1999;
        CREATE FUNCTION write_to_4() RETURNS event_trigger LANGUAGE plpgsql AS $$
        DECLARE
            n int;
        BEGIN
            IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) = 'partbackfill worker' AND tg_tag = 'ALTER TABLE'
                AND NOT EXISTS (SELECT FROM pg_class WHERE relname = 't_1' AND relispartition)
                AND EXISTS (SELECT FROM pg_class WHERE relname = 't_4' AND relispartition) THEN
                n := nextval('public.written');
                INSERT INTO public.t VALUES (n, 'written');
                INSERT INTO public.raw VALUES (n);
            END IF;
        END
        $$;
        CREATE EVENT TRIGGER write_to_4 ON ddl_command_end EXECUTE FUNCTION write_to_4();
SQL
    my $job = start_ready("partitions => '{t_1, t_2, t_3, t_4}', swap => 'attach', on_write => '$on_write', max_attempts => 1", $title);
    my ($code, $message) = error_of($node, "SELECT backfill_publish($job)");
    is($code, '55000', "$title: not published");
    like($message, $on_write eq 'catch_up' ? qr/"public\.t_4" was written to by the swap of another one.*publish => 'each'/s : qr/"public\.t_4" was modified during every build/,
        "$title: the error says why");
    same_rows($node, '(SELECT k FROM t) AS t', 'SELECT k FROM raw', "$title: no row is lost");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE v = 'new'}), '0', "$title: and nothing is swapped");
    $node->safe_psql('postgres', "DROP EVENT TRIGGER write_to_4; DROP FUNCTION write_to_4; DROP SEQUENCE written; SELECT backfill_cancel($job)");
    wait_job($node, $job);
    check_clean($node, $title);
}

#
# An error before any partition is looked at
#
{
    my $title = 'an error at the beginning';
    make_table();
    my $job = start_ready('max_attempts => 100', $title);
    set_point($node, 'claimed/0 fail');
    my $publisher = publish_beside($job);
    await($node, "SELECT count(*) > 0 FROM backfill_progress WHERE job = $job AND attempts > 1");
    clear_point($node);
    is(wait_job($node, $job), 'done', "$title: done in the end");
    $publisher->quit;
    unlike(slurp_file($node->logfile), qr/terminated by signal/, "$title: no process has crashed");
    check_clean($node, $title);
}

#
# Rows that a shadow refers to, while it waits
#
for my $on_write (qw(catch_up rebuild)) {
    my $title = "foreign keys, $on_write";
    make_table('REFERENCES ref');
    my $job = start_ready("on_write => '$on_write'", $title);
    $node->safe_psql('postgres', 'DELETE FROM t WHERE k = 1; DELETE FROM raw WHERE k = 1');
    is((error_of($node, 'DELETE FROM ref WHERE id = 1'))[0], 'none', "$title: what only a shadow refers to can be deleted");
    is($node->safe_psql('postgres', "SELECT backfill_publish($job)"), '5', "$title: published");
    same_rows($node, '(SELECT k FROM t) AS t', 'SELECT k FROM raw', "$title: the rows are right");
    is((error_of($node, 'DELETE FROM ref WHERE id = 2'))[0], '23503', "$title: what a row refers to cannot be deleted");
    check_clean($node, $title);
}

#
# A caller whose own locks the worker would wait for
#
make_table('REFERENCES ref');
{
    my $title = 'locks of the caller';
    my $job = start_ready("partitions => '{t_1, t_2}'", $title);
    for my $use ('SELECT count(*) FROM t_rest', 'LOCK TABLE raw', "INSERT INTO ref VALUES (1000)", 'SELECT count(*) FROM t_1') {
        my ($code, $message) = error_of($node, "BEGIN; $use; SELECT backfill_publish($job)");
        is($code, '25001', "$title: $use: refused");
        like($message, qr/has used table/, "$title: $use: with the table");
    }
    is($node->safe_psql('postgres', "BEGIN; SELECT count(*) FROM raw; SELECT backfill_publish($job); COMMIT"), "50\n2", "$title: to have read another table is no matter");
    check_clean($node, $title);
}

#
# After crashes one retry is enough
#
{
    my $title = 'crashes';
    make_table();
    my $job = start_ready('max_attempts => 1', $title);
    set_point($node, 'recheck/2 stop');
    my $publisher = publish_beside($job);
    for my $time (1, 2) {
        my $pid = await_point($node, $job, 'recheck');
        clear_point($node) if $time == 2;
        kill_worker($node, $pid);
        eval { $publisher->quit } if $time == 1; # the sessions were killed, too
    }
    is(wait_job($node, $job), 'failed', "$title: after two of them the job has failed");
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '1', "$title: retried");
    is(wait_job($node, $job), 'ready', "$title: ready again");
    is($node->safe_psql('postgres', "SELECT backfill_publish($job)"), '5', "$title: and published");
    is($node->safe_psql('postgres', "SELECT max(attempts) FROM backfill_progress WHERE job = $job"), '1', "$title: nothing was built again");
    check_clean($node, $title);
}

#
# A process that is terminated before it has begun
#
{
    my $title = 'a terminated publisher';
    make_table();
    my $job = start_ready('workers => 1', $title);
    my $holder = session($node);
    $holder->query_safe("BEGIN; SELECT FROM backfill_job WHERE job = $job FOR UPDATE");
    my $publisher = publish_beside($job);
    await($node, "SELECT count(pg_terminate_backend(pid)) = 1 FROM pg_stat_activity WHERE backend_type = 'partbackfill worker' AND wait_event_type = 'Lock'");
    await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'partbackfill worker' OR query LIKE '%backfill_publish($job)%' AND state = 'active' AND pid <> pg_backend_pid()");
    $holder->quit;
    $publisher->quit;
    like($publisher->{stderr}, qr/could not publish.*could not start/s, "$title: the caller is told");
    is($node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'ready', "$title: the job is still ready");
    is($node->safe_psql('postgres', "SELECT backfill_publish($job)"), '5', "$title: and can be published");
    check_clean($node, $title);
}

#
# An audit that could not be asked at once
#
{
    my $title = 'a late audit';
    make_table();
    set_point($node, 'ready/2 stop');
    my $job = start_manual("audits => ARRAY['SELECT k FROM {live} WHERE k = 15'], workers => 2");
    await_point($node, $job, 'ready');
    my $holder = session($node);
    $holder->query_safe('BEGIN; LOCK TABLE t_2');
    clear_point($node);
    await_partition($node, $job, 2, "waiting_on LIKE 'lock%' AND state = 'ready'");
    await($node, "SELECT count(*) = 4 FROM backfill_progress WHERE job = $job AND state = 'ready' AND waiting_on IS NULL");
    is($node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'running', "$title: the job is not ready without it");
    $holder->quit;
    is(wait_job($node, $job), 'failed', "$title: asked later, it fails the job");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 2"), qr/audit 1 of partition "public\.t_2" returned a row/, "$title: with its row");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($node, $job);
    check_clean($node, $title);
}

#
# Partitions that went away meanwhile
#
{
    my $title = 'partitions gone';
    make_table();
    my $job = start_ready("on_write => 'catch_up'", $title);
    my $listener = session($node);
    $listener->query_safe('LISTEN partbackfill');
    $node->safe_psql('postgres', 'ALTER TABLE t DETACH PARTITION t_1; DROP TABLE t_3');
    is($node->safe_psql('postgres', "SELECT backfill_publish($job)"), '3', "$title: the others are published");
    is(states($node, $job), 'skipped done skipped done done', "$title: those are skipped");
    my $heard = '';
    for (1 .. 200) {
        $heard .= $listener->query('SELECT pg_sleep(0.05)');
        last if $heard =~ /"job":$job,"state":"done"/;
    }
    is(join(' ', sort $heard =~ /"partition":"public\.(t_\d)","state":"skipped"/g), 't_1 t_3', "$title: and announced");
    $listener->quit;
    check_clean($node, $title);
}

$node->stop;
done_testing();
