# A build whose source is locked, and a proof whose DEFAULT partition is, are tried for as long as any lock of a swap:
# waiting_on names who has it, and after swap_patience the partition fails.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('locked_source');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE raw AS SELECT k, 'new' AS v FROM generate_series(0, 99) AS k;
    CREATE TABLE other (k int);
    CREATE VIEW corrected AS SELECT k, v FROM raw;
    CREATE FUNCTION others() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM other); END';
SQL
my $holder = session($node);
my $pid = $holder->query_safe('SELECT pg_backend_pid()');

sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t;
        CREATE TABLE t (k int, v text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 99) AS k;
SQL
    return;
}

# Stops the job of those arguments before its first build, and locks the table.
sub start_locked_out {
    my ($table, $arguments) = @_;
    make_table();
    $node->safe_psql('postgres', "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = 'created stop'; SELECT pg_reload_conf()");
    my $job = start_job($node, "$arguments, delay => '0', keep_old => false");
    await_worker($node, $job, q{query LIKE '%injection point created%'});
    $holder->query_safe("BEGIN; LOCK TABLE $table");
    $node->safe_psql('postgres', q{ALTER SYSTEM SET partbackfill.injection_point = ''; SELECT pg_reload_conf()});
    return $job;
}

for my $method ('attach', 'storage') {
    for my $kind (
        [ 'a table of the source', 'raw', 'SELECT k, v FROM raw' ],
        [ 'a table of its view', 'raw', 'SELECT k, v FROM corrected' ],
        [ 'a table of its function', 'other', 'SELECT k, v FROM raw WHERE others() = 0' ]) {
        my ($title, $table, $source) = @$kind;
        $title = "$method, $title";
        my $job = start_locked_out($table, "'t', '$source', swap => '$method', swap_patience => '0.3 s'");
        is(wait_job($node, $job), 'failed', "$title is locked: the job fails after swap_patience");
        my $error = $node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job");
        like($error, qr/could not lock partition "public.t_1"/, "$title: the error says that it was a lock");
        $holder->query_safe('COMMIT');
        is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), 1, "$title: tried again");
        is(wait_job($node, $job), 'done', "$title: done once it is free");

        $job = start_locked_out($table, "'t', '$source', swap => '$method'");
        await_partition($node, $job, 1, "waiting_on ~ 'held by $pid|what the source reads'");
        pass("$title: waiting_on says what it waits for");
        $holder->query_safe('COMMIT');
        is(wait_job($node, $job), 'done', "$title: done once it is free within swap_patience");
        check_clean($node, $title);
    }
}

# Writers do not wait for as long as a build that holds them would wait itself.
for my $method ('attach', 'storage') {
    my $title = "$method, a build that holds writers";
    my $job = start_locked_out('other', "'t', 'SELECT k, v FROM raw WHERE others() = 0', swap => '$method', on_write => 'block'");
    await_partition($node, $job, 1, 'swap_attempts > 1');
    is($node->safe_psql('postgres', q{SET lock_timeout = '20 s'; UPDATE t SET v = v WHERE k = 0 RETURNING k}), '0', "$title: lets them go");
    $holder->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: done once the function's table is free");
    check_clean($node, $title);
}

# The CHECK on a large DEFAULT partition is validated in a transaction of its own: another session comes in between.
make_table();
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t_rest PARTITION OF t DEFAULT;
    INSERT INTO t SELECT k, repeat('x', 1000) FROM generate_series(1000, 2000) AS k;
    ALTER SYSTEM SET partbackfill.injection_point = 'validating stop';
    SELECT pg_reload_conf();
SQL
my $job = start_job($node, q{'t', 'SELECT k, v FROM raw', range_start => '0', range_end => '100', swap => 'attach', delay => '0',
    keep_old => false, swap_patience => '0.3 s'});
await_worker($node, $job, q{query LIKE '%injection point validating%'});
$holder->query_until(qr/begun/, "\\echo begun\nBEGIN; LOCK TABLE t_rest IN SHARE UPDATE EXCLUSIVE MODE;\n");
await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
$node->safe_psql('postgres', q{ALTER SYSTEM SET partbackfill.injection_point = ''; SELECT pg_reload_conf()});
await_partition($node, $job, 1, q{state = 'failed' AND error LIKE 'could not lock partition%'});
pass('the DEFAULT is locked: the partition fails after swap_patience');
$holder->query_safe('COMMIT');
is(wait_job($node, $job), 'failed', 'the DEFAULT: the job rests once its CHECK could be dropped');
is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), 1, 'the DEFAULT: tried again');
is(wait_job($node, $job), 'done', 'the DEFAULT: done once it is free');
check_clean($node, 'the DEFAULT');

$node->stop;
done_testing();
