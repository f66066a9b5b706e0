# What waits for its swap is watched for: the moment at which nobody is in the way is taken, however short, by all
# partitions that wait, and while a job by 'storage' waits it goes on to build.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('swap_watch');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE seen (pauses int);
    -- An analyst who has read the whole table, holds it for a second, and comes back after a short pause, until every
    -- partition has its new rows or there were too many pauses.
    CREATE PROCEDURE read_again(partitions int, most int) LANGUAGE plpgsql AS $$
    BEGIN
        FOR pause IN 1 .. most LOOP
            PERFORM count(*) FROM t;
            PERFORM pg_sleep(1);
            COMMIT;
            PERFORM pg_sleep(0.3);
            IF (SELECT count(*) FROM backfill_control WHERE state = 'done' AND job = (SELECT max(job) FROM backfill_job)) = partitions THEN
                INSERT INTO seen VALUES (pause);
                RETURN;
            END IF;
            COMMIT;
        END LOOP;
        INSERT INTO seen VALUES (most + 1);
    END
    $$;
SQL

sub make_table {
    my ($partitions) = @_;
    $node->safe_psql('postgres', <<"SQL");
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t;
        TRUNCATE seen;
        CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', p, p * 10, p * 10 + 10)
        FROM generate_series(1, $partitions) AS p \\gexec
        INSERT INTO t SELECT k, 'old' FROM generate_series(10, 10 * $partitions + 9) AS k;
SQL
    return;
}

for my $method ('storage', 'attach') {
    my $partitions = 12;
    make_table($partitions);
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    # The transaction of this one is old when it reads the table for a moment.
    my $repeatable = session($node);
    $repeatable->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    my $job = start_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$method', delay => '0', keep_old => false");
    if ($method eq 'storage') {
        await($node, "SELECT count(*) = $partitions FROM backfill_control WHERE job = $job AND state = 'ready'");
        pass('storage: everything is built while a reader is in the way of every swap');
    } else {
        await_partition($node, $job, 1, 'swap_attempts > 1');
    }
    $repeatable->query_safe('SELECT count(*) FROM t; COMMIT');
    $reader->query_until(qr/begun/, "\\echo begun\nCOMMIT; CALL read_again($partitions, 30);\n");
    is(wait_job($node, $job), 'done', "$method: done beside an analyst who comes back after a short pause");
    is($reader->query('SELECT 1'), '1', "$method: the analyst has ended");
    my $pauses = $node->safe_psql('postgres', 'SELECT pauses FROM seen');
    cmp_ok($pauses, '<', $partitions, "$method: several partitions are swapped in one pause");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE v = 'new'}), 10 * $partitions, "$method: every row");
    is($node->safe_psql('postgres', "SELECT sum(attempts) - $partitions FROM backfill_progress WHERE job = $job"), 0,
        "$method: no attempt more than one for each");
    check_clean($node, $method);
    $_->quit for $reader, $repeatable;
}

$node->stop;
done_testing();
