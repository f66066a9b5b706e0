# What a job builds stands in schemas that nobody else has, and its source writes nothing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('schemas');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE mallory LOGIN;
    CREATE ROLE owner LOGIN;
    GRANT CREATE ON DATABASE postgres TO mallory;
    GRANT CREATE ON SCHEMA public TO owner;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO mallory;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory;
    ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON TABLES TO mallory;
    SET SESSION AUTHORIZATION owner;
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    REVOKE ALL ON t_1, t_2 FROM mallory;
    INSERT INTO t SELECT g, 'old' FROM generate_series(0, 199) AS g;
SQL
my $source = "'SELECT g AS k, ''new''::text AS v FROM generate_series(0, 199) AS g WHERE pass_gate(1)', delay => '0'";
my $as_owner = 'SET SESSION AUTHORIZATION owner';

sub next_number {
    return $node->safe_psql('postgres', 'SELECT last_value + 1 FROM backfill_job_job_seq');
}

sub squat {
    my ($job) = @_;
    my ($code) = error_of($node, "SET SESSION AUTHORIZATION mallory; CREATE SCHEMA backfill_${job}_new; CREATE SCHEMA backfill_${job}_old");
    return $code;
}

$node->safe_psql('postgres', "SELECT nextval('backfill_job_job_seq')");
{
    my $title = 'names taken before the job starts';
    my $number = next_number();
    is(squat($number), 'none', "$title: mallory takes them");
    my $job = start_job($node, "'t', $source", $as_owner);
    cmp_ok($job, '>', $number, "$title: the job has another number");
    is(wait_job($node, $job), 'done', "$title: done");
    $node->safe_psql('postgres', "$as_owner; SELECT backfill_purge($job)");
}
{
    my $title = 'names about to be taken';
    my $number = next_number();
    my $thief = session($node);
    $thief->query_safe("SET SESSION AUTHORIZATION mallory; BEGIN; CREATE SCHEMA backfill_${number}_old");
    # 1.0 found out when it built, and waited for mallory then.
    my $job = start_job($node, "'t', $source", $as_owner);
    cmp_ok($job, '>', $number, "$title: the job has another number, and did not wait for mallory");
    $thief->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: done");
    $node->safe_psql('postgres', "$as_owner; SELECT backfill_purge($job)");
    $thief->quit;
}
{
    my $title = 'names taken once the number is known';
    close_gate($holder, 1);
    my $job = start_job($node, "'t', $source", $as_owner);
    # 1.0 made them when it built: all attempts failed where they were taken by then.
    is(squat($job), '42P06', "$title: they are there as soon as the job is");
    await_at_gate($node, 1);
    is($node->safe_psql('postgres', "SELECT bool_or(has_schema_privilege('mallory', oid, 'USAGE') OR has_schema_privilege('mallory', oid, 'CREATE'))"
                . " FROM pg_namespace WHERE nspname LIKE 'backfill\\_${job}\\_%'"), 'f', "$title: default privileges give no right in them");
    is($node->safe_psql('postgres', "$as_owner; SELECT backfill_pause($job)"), 't', "$title: paused");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'paused', "$title: and at rest");
    # Nothing of a job stays while it is paused and nothing is built.
    is(squat($job), 'none', "$title: mallory takes them while it is paused");
    my ($code, $message) = error_of($node, "$as_owner; SELECT backfill_resume($job)");
    is($code, '55006', "$title: it cannot be resumed");
    like($message, qr/^schema "backfill_${job}_new" belongs to role "mallory"/, "$title: and says why");
    is($node->safe_psql('postgres', "$as_owner; SELECT backfill_resume()"), '0', "$title: and is passed over with all others");
    $node->safe_psql('postgres', "DROP SCHEMA backfill_${job}_new, backfill_${job}_old");
    is($node->safe_psql('postgres', "$as_owner; SELECT backfill_resume($job)"), '1', "$title: resumed without them");
    is(wait_job($node, $job), 'done', "$title: done");
    is($node->safe_psql('postgres', "SELECT has_table_privilege('mallory', 'backfill_${job}_old.t_1', 'SELECT')"), 'f', "$title: nor in what is kept");
    $node->safe_psql('postgres', "$as_owner; SELECT backfill_purge($job)");
}
{
    my $title = 'names taken after a job failed';
    my $job = start_job($node, "'t', 'SELECT 1 / (g - 1) AS k, ''new''::text AS v FROM generate_series(1, 2) AS g', delay => '0', max_attempts => 1", $as_owner);
    is(wait_job($node, $job), 'failed', "$title: it failed");
    is(squat($job), 'none', "$title: mallory takes them");
    my ($code, $message) = error_of($node, "$as_owner; SELECT backfill_retry($job)");
    is($code, '55006', "$title: a retry is refused");
    like($message, qr/^schema "backfill_${job}_new" belongs to role "mallory"/, "$title: and says why");
    $node->safe_psql('postgres', "DROP SCHEMA backfill_${job}_new, backfill_${job}_old");
    is($node->safe_psql('postgres', "$as_owner; SELECT backfill_cancel($job)"), 't', "$title: canceled");
    is(wait_job($node, $job), 'canceled', "$title: and at rest");
}
$node->safe_psql('postgres', 'DROP OWNED BY mallory CASCADE');
check_clean($node, 'schemas');

# The source may call functions that write: in a transaction that is read-only for it.
$node->safe_psql('postgres', <<'SQL');
    CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
    CREATE TABLE written (by text);
    CREATE FUNCTION write(what text) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO written VALUES (what);
        RETURN 1;
    END
    $$;
    CREATE FUNCTION write_early(what text) RETURNS int STABLE LANGUAGE plpgsql AS $$
    BEGIN
        RETURN write(what);
    END
    $$;
    CREATE TABLE plain (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
    CREATE TABLE plain_1 PARTITION OF plain FOR VALUES FROM (0) TO (100);
    CREATE TABLE other (k int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (k * 2) STORED) PARTITION BY RANGE (k);
    CREATE TABLE other_1 PARTITION OF other FOR VALUES FROM (0) TO (100) USING heap2;
    CREATE INDEX ON other (v) WHERE v > 0;
    CREATE TABLE numbers AS SELECT g AS k, g AS v FROM generate_series(0, 99) AS g;
    ANALYZE numbers;
SQL
for my $table ('plain', 'other') {
    # 1.0 let the load of another access method than the heap write.
    my $job = start_job($node, "'$table', 'SELECT 1 AS k, write(''load of $table'') AS v', delay => '0', max_attempts => 1");
    is(wait_job($node, $job), 'failed', "$table: a source that writes fails");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"),
        qr/^cannot execute INSERT in a read-only transaction/, "$table: and the error says why");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($node, $job);
    # 1.0 let the planner call it.
    my ($code) = error_of($node, "SELECT backfill_start('$table', 'SELECT k, v FROM numbers WHERE v >= write_early(''plan of $table'')')");
    is($code, '25006', "$table: nor may it write when it is planned");
    is($node->safe_psql('postgres', q{SELECT string_agg(by, '; ') FROM written}), '', "$table: nothing was written");
}
my $job = start_job($node, q{'other', 'numbers', delay => '0', nice_ratio => 0.1});
is(wait_job($node, $job), 'done', 'another access method: done');
is($node->safe_psql('postgres', 'SELECT count(*), sum(v), sum(w) FROM other'), '100|4950|9900', 'another access method: its rows');
is($node->safe_psql('postgres', 'SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM other WHERE v > 50'), '49', 'another access method: its indexes');

$holder->quit;
$node->stop;
done_testing();
