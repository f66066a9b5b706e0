# Dropped in the middle: the target, a partition, the source, a column, the role, the database, the extension. Each ends
# in a clear state, and nothing is left behind.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dropped');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE PROCEDURE make_table(name text) LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TABLE %I (k int PRIMARY KEY, v text, extra int) PARTITION BY RANGE (k)', name);
        FOR n IN 1 .. 3 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', name || '_' || n, name,
                           n * 100, (n + 1) * 100);
        END LOOP;
        EXECUTE format('INSERT INTO %I SELECT g, %L FROM generate_series(100, 399) AS g', name, 'old');
    END
    $$;
    CREATE TABLE new AS SELECT g AS k, 'new'::text AS v, 1 AS extra FROM generate_series(100, 399) AS g;
SQL

# A job on a new table, held up in the load of its second partition.
sub start_held {
    my ($table, $source) = @_;
    $node->safe_psql('postgres', "CALL make_table('$table')");
    close_gate($holder, 1);
    my $job = start_job($node, "'$table', '" . ($source // 'SELECT * FROM new WHERE CASE WHEN k < 200 THEN true ELSE pass_gate(1) END')
            . "', delay => '0', max_attempts => 2, keep_old => false");
    await_at_gate($node, 1);
    return $job;
}

sub check_end {
    my ($title, $job, $state, $states) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(wait_job($node, $job), $state, "$title: the job is $state");
    is(states($node, $job), $states, "$title: the states of the partitions");
    check_clean($node, $title);
    return;
}

sub error_in {
    my ($job, $ordinal) = @_;
    return $node->safe_psql('postgres', "SELECT split_part(error, E'\\n', 1) FROM backfill_progress WHERE job = $job AND ordinal = $ordinal");
}

{
    my $title = 'the target';
    my $job = start_held('target');
    $node->safe_psql('postgres', 'DROP TABLE target');
    open_gate($holder, 1);
    check_end($title, $job, 'done', 'done skipped skipped');
    like(error_in($job, 3), qr/^the partition was dropped, detached/, "$title: the reason");
    is($node->safe_psql('postgres', "SELECT target FROM backfill_status WHERE job = $job"), 'public.target', "$title: its name stays");
}
{
    my $title = 'a partition that is built, and one that waits';
    my $job = start_held('part');
    $node->safe_psql('postgres', 'DROP TABLE part_2, part_3');
    open_gate($holder, 1);
    check_end($title, $job, 'done', 'done skipped skipped');
    is($node->safe_psql('postgres', 'SELECT count(*), min(v) FROM part'), '100|new', "$title: the rest is new");
}
{
    my $title = 'the source';
    $node->safe_psql('postgres', 'CREATE TABLE brief AS TABLE new');
    $node->safe_psql('postgres', "CALL make_table('orphan')");
    my $job = start_job($node, q{'orphan', 'brief', delay => '1 hour', max_attempts => 2, keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    $node->safe_psql('postgres', 'DROP TABLE brief');
    $node->safe_psql('postgres', "SELECT backfill_alter($job, delay => '0')");
    check_end($title, $job, 'failed', 'done failed failed');
    is(error_in($job, 2), 'the source relation does not exist any more', "$title: the reason");
    $node->safe_psql('postgres', 'CREATE TABLE brief AS TABLE new');
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$title: another table of that name is another source");
    is(wait_job($node, $job), 'canceled', "$title: canceled");
}
{
    my $title = 'a column of the target';
    my $job = start_held('narrow');
    $node->safe_psql('postgres', 'ALTER TABLE narrow DROP extra');
    open_gate($holder, 1);
    # What is built with it is built again; the source may give more than is taken.
    check_end($title, $job, 'done', 'done done done');
    is($node->safe_psql('postgres', 'SELECT DISTINCT narrow FROM narrow WHERE k = 250'), '(250,new)', "$title: it stays dropped");
}
{
    my $title = 'a column of the source';
    $node->safe_psql('postgres', 'CREATE TABLE brief_rows AS TABLE new');
    $node->safe_psql('postgres', "CALL make_table('wide')");
    my $job = start_job($node, q{'wide', 'brief_rows', delay => '1 hour', max_attempts => 1, keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    $node->safe_psql('postgres', 'ALTER TABLE brief_rows DROP extra');
    $node->safe_psql('postgres', "SELECT backfill_alter($job, delay => '0')");
    check_end($title, $job, 'failed', 'done failed failed');
    is(error_in($job, 2), 'column source.extra does not exist', "$title: the reason");
}
{
    my $title = 'a table in a query';
    $node->safe_psql('postgres', 'CREATE TABLE brief_query AS TABLE new');
    $node->safe_psql('postgres', "CALL make_table('asked')");
    my $job = start_job($node, q{'asked', 'SELECT * FROM brief_query', delay => '1 hour', max_attempts => 1, keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    $node->safe_psql('postgres', 'DROP TABLE brief_query');
    $node->safe_psql('postgres', "SELECT backfill_alter($job, delay => '0')");
    check_end($title, $job, 'failed', 'done failed failed');
    is($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 2"),
        qq{relation "brief_query" does not exist\nDetail: The error is at character 15 of the source.}, "$title: the reason, and where");
}
{
    my $title = 'the schemas of the job';
    my $job = start_held('schemas');
    my $session = session($node);
    # It waits for the build, and takes the shadow with it.
    $session->query_until(qr/begun/, "\\echo begun\nDROP SCHEMA backfill_${job}_new, backfill_${job}_old CASCADE;\n");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done all the same");
    is($node->safe_psql('postgres', 'SELECT count(*), min(v) FROM schemas'), '300|new', "$title: all rows are new");
    $session->quit;
    check_clean($node, $title);
}
for my $n (1 .. 5) {
    my $title = "the role, $n";
    my ($leaver, $table) = ("leaver_$n", "left_over_$n");
    $node->safe_psql('postgres', <<"SQL");
        CREATE ROLE $leaver LOGIN;
        GRANT SELECT ON new TO $leaver;
        CALL make_table('$table');
        ALTER TABLE $table OWNER TO $leaver;
        ALTER TABLE ${table}_1 OWNER TO $leaver;
        ALTER TABLE ${table}_2 OWNER TO $leaver;
        ALTER TABLE ${table}_3 OWNER TO $leaver;
        GRANT CREATE ON SCHEMA public TO $leaver;
        CREATE ROLE heir_$n;
SQL
    close_gate($holder, 1);
    my $job = start_job($node, "'$table', 'SELECT * FROM new WHERE pass_gate(1)', delay => '0', max_attempts => 1, keep_old => false",
        "SET SESSION AUTHORIZATION $leaver");
    await_at_gate($node, 1);
    my ($code) = error_of($node, "DROP ROLE $leaver");
    is($code, '2BP01', "$title: it has something to lose");
    # The shadow is its own, too, and being filled.
    my $session = session($node);
    $session->query_until(qr/begun/,
        "\\echo begun\nREASSIGN OWNED BY $leaver TO heir_$n;\nDROP OWNED BY $leaver;\nDROP ROLE $leaver;\n");
    await($node, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'relation' AND NOT granted");
    open_gate($holder, 1);
    # The worker drops what is to be reassigned or revoked at the same moment: one asks again then.
    $session->query('SELECT');
    unlike($session->{stderr}, qr/ERROR:  (?!tuple concurrently|role "$leaver" cannot)/, "$title: nothing is in its way");
    $session->quit;
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    $node->safe_psql('postgres', "DROP OWNED BY $leaver; DROP ROLE $leaver")
        if $node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname = '$leaver'");
    unlike(states($node, $job), qr/running|pending|ready/, "$title: in all that it had not done");
    unlike(error_in($job, 1), qr/deadlock/, "$title: nobody found a deadlock");
    isnt($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"), '', "$title: it says why");
    like($node->safe_psql('postgres', "SELECT owner FROM backfill_status WHERE job = $job"), qr/^role \d+$/, "$title: its owner is a number now");
    check_clean($node, $title);
}
{
    my $title = 'a role that may not connect any more';
    $node->safe_psql('postgres', <<'SQL');
        CREATE ROLE locked LOGIN;
        GRANT CREATE ON SCHEMA public TO locked;
        GRANT SELECT ON new TO locked;
        CALL make_table('locked_out');
        ALTER TABLE locked_out OWNER TO locked;
        ALTER TABLE locked_out_1 OWNER TO locked;
        ALTER TABLE locked_out_2 OWNER TO locked;
        ALTER TABLE locked_out_3 OWNER TO locked;
SQL
    my $job = $node->safe_psql('postgres', <<'SQL');
        -- Before: a worker connects as soon as it is registered, and waits for the commit then.
        REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
        SET SESSION AUTHORIZATION locked;
        SELECT backfill_start('locked_out', 'new', delay => '0', keep_old => false, workers => 2);
SQL
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    is(states($node, $job), 'failed failed failed', "$title: all of it");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"),
        qr/^the workers of the job could not connect: permission denied for database "postgres"\nHint: Once they can, backfill_retry\($job\) goes on/, "$title: it says why");
    check_clean($node, $title);
    $node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '3', "$title: once it may again, it is retried");
    is(wait_job($node, $job), 'done', "$title: and done");
    check_clean($node, $title);
}
{
    my $title = 'the database';
    $node->safe_psql('postgres', 'CREATE DATABASE doomed TEMPLATE template0');
    $node->safe_psql('doomed', <<'SQL');
        CREATE EXTENSION partbackfill;
        CREATE TABLE t (k int) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
        SELECT backfill_start('t', 'SELECT 1 AS k FROM pg_sleep(1000)');
SQL
    await($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'doomed' AND backend_type = 'partbackfill worker' AND query LIKE '%loading%'");
    my ($code) = error_of($node, 'DROP DATABASE doomed');
    is($code, '55006', "$title: in use");
    my $place = -s $node->logfile;
    $node->safe_psql('postgres', 'DROP DATABASE doomed WITH (FORCE)');
    # The server starts the worker once more, and that is that.
    $node->wait_for_log(qr/partbackfill worker FATAL:  database \d+ does not exist/, $place);
    await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'partbackfill%'");
    pass("$title: gone, and its workers with it");
}

$holder->quit;
$node->stop;
done_testing();
