# What was written since a swap: refused with the count, left behind by force, or carried over by key, beside writers that never
# rest.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Revert;
use Test::More;

my $node = new_node('revert_writes');
my $rewrite = "'t', 'SELECT k, ''new'' AS v, n FROM t'";
my $keys = 300;

# The table, and a plain one to which the same is written: what would be there without a job.
sub make_table {
    $node->safe_psql('postgres', <<"SQL");
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, truth;
        CREATE TABLE t (k int PRIMARY KEY, v text, n int) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300);
        CREATE UNIQUE INDEX ON t_1 (v, k);
        INSERT INTO t SELECT k, 'old', 0 FROM generate_series(0, $keys - 1) AS k;
        CREATE TABLE truth (LIKE t INCLUDING ALL);
        INSERT INTO truth SELECT * FROM t;
SQL
    return;
}

# In both tables, a transaction each.
sub write_both {
    $node->safe_psql('postgres', "BEGIN; $_; COMMIT") for map { my $in_truth = s/\bT\b/truth/r; my $in_t = s/\bT\b/t/r; ($in_t, $in_truth) } @_;
    return;
}

my @writes = (
    "UPDATE T SET n = 1, v = 'written' WHERE k = 5",
    'DELETE FROM T WHERE k = 6',
    "INSERT INTO T VALUES (6, 'again', 2)",
    'DELETE FROM T WHERE k = 7',
    "DELETE FROM T WHERE k = 150",
    "UPDATE T SET k = 150, v = 'moved' WHERE k = 8",
);

for my $swap (qw(attach storage)) {
    # Refused, and forced.
    for my $on_write (qw(rebuild block ignore)) {
        my $title = "$swap, $on_write";
        make_table();
        my $job = done_job($node, "$rewrite, swap => '$swap', on_write => '$on_write'");
        $node->safe_psql('postgres', "UPDATE t SET n = 9 WHERE k = 1");
        $node->safe_psql('postgres', 'BEGIN; UPDATE t SET n = 9 WHERE k = 2; UPDATE t SET n = 8 WHERE k = 2; COMMIT');
        $node->safe_psql('postgres', 'BEGIN; UPDATE t SET n = 9 WHERE k = 3; ROLLBACK');
        my ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
        is($code, '55006', "$title: a partition that was written to is not reverted");
        like($message, qr/1 of 3 partitions .* were written to or changed since.*public.t_1: 2 transactions wrote to it.*force => true/s, "$title: the error has the count");
        is($node->safe_psql('postgres', 'SELECT DISTINCT v FROM t'), 'new', "$title: none is reverted");
        is(revert($node, "$job, 't_2'"), 1, "$title: another one is");
        is(revert($node, "$job, force => true"), 2, "$title: by force");
        is($node->safe_psql('postgres', 'SELECT DISTINCT v FROM t'), 'old', "$title: the old rows are back");
        is($node->safe_psql('postgres', "SELECT string_agg(n::text, ' ' ORDER BY k) FROM backfill_${job}_old.t_1 WHERE n > 0"), '9 8', "$title: what was written is kept beside");
        end_job($node, $job, $title);
    }

    # Many transactions leave few marks.
    make_table();
    my $busy = done_job($node, "$rewrite, swap => '$swap'");
    append_to_file("$PostgreSQL::Test::Utils::tmp_check/busy.sql", "UPDATE t SET n = n + 1 WHERE k = 7;\n") unless -e "$PostgreSQL::Test::Utils::tmp_check/busy.sql";
    $node->command_ok([ 'pgbench', '-n', '-t', '200', '-c', '2', '-f', "$PostgreSQL::Test::Utils::tmp_check/busy.sql", '-h', $node->host, '-p', $node->port, 'postgres' ], "$swap: 400 transactions");
    cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM backfill_write'), '<=', 40, "$swap: many transactions leave few marks");
    my (undef, $message) = error_of($node, "SELECT backfill_revert($busy)");
    like($message, qr/t_1: at least 32 transactions wrote to it/, "$swap: and are told");
    end_job($node, $busy, "$swap, busy");

    # The kept table was written to.
    make_table();
    my $changed = done_job($node, "$rewrite, swap => '$swap'");
    $node->safe_psql('postgres', "UPDATE backfill_${changed}_old.t_3 SET v = 'changed' WHERE k = 201");
    (my $code, $message) = error_of($node, "SELECT backfill_revert($changed)");
    like($message, qr/t_3: 1 transaction wrote to its old rows/, "$swap: a kept table that was changed is not taken back unasked");
    is(revert($node, "$changed, force => true"), 3, "$swap: by force it is");
    is($node->safe_psql('postgres', 'SELECT v, count(*) FROM t GROUP BY v ORDER BY v'), "changed|1\nold|299", "$swap: as it is");
    end_job($node, $changed, "$swap, changed");

    # Carried over.
    my $title = "$swap, catch_up";
    make_table();
    my $job = done_job($node, "$rewrite, swap => '$swap', on_write => 'catch_up'");
    write_both(@writes);
    is(revert($node, $job), 3, "$title: reverted with what was written");
    same_rows($node, 't', 'SELECT * FROM truth', "$title: the old rows, and the written ones as they are now");
    write_both("UPDATE T SET n = 4, v = 'later' WHERE k = 120", 'DELETE FROM T WHERE k = 121', "INSERT INTO T VALUES (121, 'later', 4)");
    is(revert($node, $job), 3, "$title: the other way");
    $node->safe_psql('postgres', "UPDATE truth SET v = 'new' WHERE v = 'old'");
    same_rows($node, 't', 'SELECT * FROM truth', "$title: the new rows, and all written ones");
    is(revert($node, "$job, 't_3'"), 1, "$title: a partition that nobody wrote to");
    is($node->safe_psql('postgres', 'SELECT DISTINCT v FROM t_3'), 'old', "$title: has its old rows");

    # A row whose key was not logged.
    $node->safe_psql('postgres', 'TRUNCATE t_1');
    ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
    is($code, '55006', "$title: TRUNCATE is no write that can be carried over");
    like($message, qr/1 of 2 partitions .*t_1: 1 transaction wrote to it/s, "$title: and is told");
    is(revert($node, "$job, 't_1', true"), 1, "$title: by force the rows are back");
    is($node->safe_psql('postgres', 'SELECT count(*) > 90 FROM t_1'), 't', "$title: all of them");
    end_job($node, $job, $title);
}

# Keys that were logged are of no use once the rows have another one.
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE u (k int NOT NULL, w int NOT NULL, v text) PARTITION BY RANGE (k);
    CREATE TABLE u_1 PARTITION OF u FOR VALUES FROM (0) TO (100);
    CREATE UNIQUE INDEX ON u_1 (k);
    INSERT INTO u SELECT k, 1000 - k, 'old' FROM generate_series(0, 99) AS k;
SQL
for my $swap (qw(attach storage)) {
    my $job = start_job($node, "'u', 'SELECT k, w, ''new'' AS v FROM u', delay => '0', on_write => 'catch_up', swap => '$swap'");
    is(wait_job($node, $job), 'done', "$swap, another key: done");
    $node->safe_psql('postgres', "UPDATE u SET v = 'written' WHERE k = 1; ALTER TABLE u_1 ADD PRIMARY KEY (w)");
    my ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
    is($code, '55006', "$swap, another key: refused");
    like($message, qr/rows were written to it, and its key was changed/, "$swap, another key: with the reason");
    is(revert($node, "$job, force => true"), 1, "$swap, another key: by force");
    is($node->safe_psql('postgres', 'SELECT v, count(*) FROM u GROUP BY v'), 'old|100', "$swap, another key: the old rows are back");
    end_job($node, $job, "$swap, another key");
    $node->safe_psql('postgres', 'ALTER TABLE u_1 DROP CONSTRAINT u_1_pkey');
}

# Beside writers and readers.
$node->safe_psql('postgres', <<"SQL");
    CREATE FUNCTION check_rows() RETURNS void LANGUAGE plpgsql AS \$\$
    DECLARE
        found record;
    BEGIN
        SELECT (SELECT count(*) FROM t) AS rows, (SELECT sum(n) FROM t) AS written, (SELECT sum(n) FROM truth) AS truth INTO found;
        IF found.rows <> $keys OR found.written <> found.truth THEN
            RAISE EXCEPTION 'a reader sees %', found;
        END IF;
    END
    \$\$;
SQL
my $directory = $PostgreSQL::Test::Utils::tmp_check;
# The row of truth is locked first: two writers of one key would not see each other's row otherwise.
append_to_file("$directory/write.sql", "\\set k random(0, $keys - 1)\nBEGIN;\nUPDATE truth SET n = n + 1 WHERE k = :k;\nUPDATE t SET n = n + 1 WHERE k = :k;\nCOMMIT;\n");
append_to_file("$directory/replace.sql", "\\set k random(0, $keys - 1)\nBEGIN;\nUPDATE truth SET n = n + 1 WHERE k = :k;\nDELETE FROM t WHERE k = :k RETURNING v, n\n\\gset\nINSERT INTO t VALUES (:k, ':v', :n + 1);\nCOMMIT;\n");
append_to_file("$directory/read.sql", "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT check_rows();\nSELECT pg_sleep(0.002);\nSELECT check_rows();\nCOMMIT;\nSELECT check_rows();\n");
for my $swap (qw(attach storage)) {
    for my $publish (qw(each together)) {
        my $title = "$swap, $publish, beside writers";
        make_table();
        my $job = done_job($node, "$rewrite, swap => '$swap', publish => '$publish', on_write => 'catch_up', lock_timeout => '1 s'");
        my $clients = start_clients($node, 4, map { ('-f', "$directory/$_.sql") } qw(write replace read));
        for my $round (1 .. 4) {
            await($node, "SELECT count(*) > 0 FROM t WHERE n > $round");
            is(revert($node, $job), 3, "$title: reverted, round $round");
        }
        my $complaints = stop_clients($clients);
        unlike($complaints, qr/ERROR/, "$title: no reader has missed a row or a write");
        same_rows($node, '(SELECT k, n FROM t) AS t', 'SELECT k, n FROM truth', "$title: no write is lost");
        end_job($node, $job, $title);
    }
}

done_testing();
