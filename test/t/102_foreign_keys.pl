# Foreign keys of partitions that are rebuilt: whatever others do to the tables that they refer to, each key of the table
# refers to a row all the time, nobody stalls, and nothing of the keys is lost.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('foreign_keys');
my $tmp = PostgreSQL::Test::Utils::tempdir();

# t refers to an ordinary table, a partitioned one, and t_1 alone to a third.
sub make_tables {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, account, tag, owner, ledger, raw CASCADE;
        CREATE TABLE account (a int PRIMARY KEY, n int NOT NULL DEFAULT 0);
        CREATE TABLE tag (g int PRIMARY KEY) PARTITION BY RANGE (g);
        CREATE TABLE tag_1 PARTITION OF tag FOR VALUES FROM (0) TO (5);
        CREATE TABLE tag_2 PARTITION OF tag FOR VALUES FROM (5) TO (10);
        CREATE TABLE owner (o int PRIMARY KEY);
        INSERT INTO account SELECT generate_series(0, 99);
        INSERT INTO tag SELECT generate_series(0, 9);
        INSERT INTO owner SELECT generate_series(0, 9);
        CREATE TABLE t (k int PRIMARY KEY, a int REFERENCES account, g int REFERENCES tag, o int) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (1000) TO (2000);
        ALTER TABLE t_1 ADD CONSTRAINT own FOREIGN KEY (o) REFERENCES owner ON DELETE CASCADE;
        INSERT INTO t SELECT k, k % 50, k % 8, k % 8 FROM generate_series(0, 1999, 2) AS k;
        CREATE TABLE raw AS TABLE t;
SQL
    return;
}

# The triggers of foreign keys on the tables that are referred to, and the keys of the partitions.
sub keys_of {
    return $node->safe_psql('postgres', <<'SQL');
        SELECT concat_ws(' ', t.tgrelid::regclass, t.tgfoid::regproc, k.conrelid::regclass)
        FROM pg_trigger AS t JOIN pg_constraint AS k ON k.oid = t.tgconstraint
        WHERE t.tgrelid IN ('account'::regclass, 'tag'::regclass, 'tag_1'::regclass, 'tag_2'::regclass, 'owner'::regclass)
        UNION ALL
        SELECT concat_ws(' ', k.conrelid::regclass, k.conname, k.convalidated, k.conparentid <> 0, k.conislocal, k.coninhcount)
        FROM pg_constraint AS k WHERE k.contype = 'f' AND k.conrelid IN ('t_1'::regclass, 't_2'::regclass)
        ORDER BY 1
SQL
}

# Rows of t that refer to nothing.
sub orphans {
    return $node->safe_psql('postgres', <<'SQL');
        SELECT count(*) FROM t
        WHERE a NOT IN (SELECT a FROM account) OR g NOT IN (SELECT g FROM tag) OR k < 1000 AND o NOT IN (SELECT o FROM owner)
SQL
}

sub script {
    my ($name, $text) = @_;
    append_to_file("$tmp/$name.sql", $text) unless -e "$tmp/$name.sql";
    return ('-f', "$tmp/$name.sql");
}

# The partitions of t_1 alone, by its table, in a job that stops nowhere.
sub start {
    my ($method, $source, $more) = @_;
    return start_job($node, "'t', '$source', partitions => '{t_1}', swap => '$method', delay => '0', max_attempts => 1, $more");
}

for my $method (qw(attach storage)) {
    #
    # Beside readers and writers of all tables
    #
    make_tables();
    my $before = keys_of();
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE ledger AS TABLE t;
        CREATE OR REPLACE PROCEDURE write() LANGUAGE plpgsql AS $$
        DECLARE
            key int := 2 * floor(random() * 1000) + 1;
        BEGIN
            SET LOCAL statement_timeout = '10 s'; -- a stall
            INSERT INTO t VALUES (key, floor(random() * 110), floor(random() * 11), floor(random() * 10)) ON CONFLICT (k) DO UPDATE SET a = EXCLUDED.a;
            INSERT INTO ledger SELECT * FROM t WHERE k = key AND NOT EXISTS (SELECT FROM ledger AS l WHERE l.k = key);
            UPDATE ledger AS l SET a = t.a FROM t WHERE l.k = key AND t.k = key;
        EXCEPTION WHEN foreign_key_violation OR serialization_failure OR deadlock_detected OR unique_violation THEN NULL;
        END
        $$;
        ALTER TABLE ledger ADD PRIMARY KEY (k);
        CREATE OR REPLACE PROCEDURE write_referred() LANGUAGE plpgsql AS $$
        DECLARE
            key int := floor(random() * 110);
        BEGIN
            SET LOCAL statement_timeout = '10 s';
            CASE floor(random() * 3)
            WHEN 0 THEN DELETE FROM account WHERE a = key;
            WHEN 1 THEN INSERT INTO account VALUES (key) ON CONFLICT DO NOTHING;
            ELSE UPDATE account SET n = n + 1 WHERE a = key;
            END CASE;
            DELETE FROM tag WHERE g = key;
            INSERT INTO tag SELECT key WHERE key < 10 ON CONFLICT DO NOTHING;
        EXCEPTION WHEN foreign_key_violation OR serialization_failure OR deadlock_detected THEN NULL;
        END
        $$;
SQL
    my $clients = start_clients($node, 6,
        script('write', "CALL write();\n"), script('write_referred', "CALL write_referred();\n"),
        script('read', "SET statement_timeout = '10 s';\nSELECT count(*) FROM t JOIN account USING (a) JOIN tag USING (g);\nSELECT count(*) FROM account, owner;\n"));
    for my $arguments ("on_write => 'catch_up'", "on_write => 'catch_up', publish => 'together'") {
        for (1 .. 2) {
            my $job = start_job($node, "'t', 't', swap => '$method', delay => '0', keep_old => false, lock_timeout => '200 ms', $arguments");
            is(wait_job($node, $job), 'done', "$method, $arguments, beside writers: done")
                or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"));
            is(orphans(), '0', "$method, $arguments, beside writers: each key refers to a row");
        }
    }
    is(stop_clients($clients), '', "$method, beside writers: nobody complained");
    same_rows($node, 't', 'TABLE ledger', "$method, beside writers: no row is lost");
    same_text(keys_of(), $before, "$method, beside writers: the keys are what they were");
    check_clean($node, "$method, beside writers");

    #
    # Between the build and the swap: what the new rows refer to is kept, too
    #
    make_tables();
    $node->safe_psql('postgres', 'UPDATE raw SET a = 77, g = 9, o = 9');
    set_point($node, 'auditing stop');
    my $job = start($method, 'raw', "keep_old => true, audits => ARRAY['SELECT 1 WHERE false']");
    await_point($node, $job, 'auditing');
    my ($sqlstate, $message) = error_of($node, 'DELETE FROM account WHERE a = 77');
    is($sqlstate, '23503', "$method, before the swap: a row that only the new rows refer to is kept");
    ($sqlstate) = error_of($node, 'DELETE FROM tag WHERE g = 9');
    is($sqlstate, '23503', "$method, before the swap: in a partitioned table, too");
    ($sqlstate) = error_of($node, 'DELETE FROM account WHERE a = 20');
    is($sqlstate, '23503', "$method, before the swap: as are those that the old rows refer to");

    # While the tables are exchanged a deletion waits, and then meets the new rows.
    set_point($node, 'swapping stop');
    await_point($node, $job, 'swapping');
    my $deleter = session($node);
    my $pid = $deleter->query_safe('SELECT pg_backend_pid()');
    $deleter->query_until(qr/begun/, "\\echo begun\nDELETE FROM account WHERE a = 77;\n");
    await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
    is($node->safe_psql('postgres', "SET statement_timeout = '10 s'; SELECT count(*) FROM account, tag_1, owner"), '5000',
        "$method, in the swap: readers of the other tables pass");
    clear_point($node);
    is(wait_job($node, $job), 'done', "$method, in the swap: done");
    $deleter->query('SELECT 1');
    like($deleter->{stderr}, qr/violates foreign key constraint/, "$method, in the swap: a row that the new rows refer to is kept");
    $deleter->quit;
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t_1 WHERE a = 77 AND o = 9'), '500', "$method, in the swap: the new rows are there");

    # What the kept rows referred to may go; what the new rows refer to goes with them, or stays.
    $node->safe_psql('postgres', 'UPDATE t SET a = 77 WHERE k >= 1000; DELETE FROM account WHERE a < 50; DELETE FROM owner WHERE o < 9');
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t_1'), '500', "$method, after the swap: nothing is kept for the old rows");
    is($node->safe_psql('postgres', "SELECT count(*) FROM backfill_${job}_old.t_1"), '500', "$method, after the swap: which are kept themselves");
    $node->safe_psql('postgres', 'DELETE FROM owner WHERE o = 9');
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t_1'), '0', "$method, after the swap: a cascade");
    $node->safe_psql('postgres', "SELECT backfill_purge($job)");
    check_clean($node, "$method, the swap");

    #
    # A session that keeps a partition of the partitioned table: nobody waits behind the swap
    #
    make_tables();
    set_point($node, 'auditing stop');
    $job = start($method, 'raw', "keep_old => false, lock_timeout => '20 ms', audits => ARRAY['SELECT 1 WHERE false']");
    await_point($node, $job, 'auditing');
    my $holder = session($node);
    $holder->query_safe('BEGIN; INSERT INTO tag_2 SELECT 9 WHERE false');
    clear_point($node);
    await_partition($node, $job, 1, "swap_attempts > 2 AND waiting_on LIKE 'lock%'");
    is($node->safe_psql('postgres', <<'SQL'), "50\n500\n2", "$method, a lock that is not had: others go on");
        SET statement_timeout = '10 s';
        WITH u AS (UPDATE account SET n = 1 WHERE a < 50 RETURNING a) SELECT count(*) FROM u;
        WITH u AS (UPDATE t SET a = a WHERE k >= 1000 RETURNING a) SELECT count(*) FROM u;
        WITH i AS (DELETE FROM tag WHERE g IN (8, 9) RETURNING g) SELECT count(*) FROM i;
SQL
    $holder->query_safe('COMMIT');
    $holder->quit;
    is(wait_job($node, $job), 'done', "$method, a lock that is not had: done in the end");
    check_clean($node, "$method, a lock that is not had");

    #
    # All in one transaction that keeps writers out
    #
    make_tables();
    $before = keys_of();
    $job = start($method, 'raw', "keep_old => false, on_write => 'block'");
    is(wait_job($node, $job), 'done', "$method, a blocking build: done");
    same_text(keys_of(), $before, "$method, a blocking build: the keys are what they were");
    check_clean($node, "$method, a blocking build");

    #
    # A key that is not valid, and rows that are refreshed after the others were validated: they need not refer to a row
    #
    make_tables();
    $node->safe_psql('postgres', 'ALTER TABLE t_1 ADD CONSTRAINT hope FOREIGN KEY (k) REFERENCES owner NOT VALID');
    $before = keys_of();
    set_point($node, 'auditing stop');
    $job = start($method, 't', "keep_old => false, on_write => 'catch_up', audits => ARRAY['SELECT 1 WHERE false']");
    await_point($node, $job, 'auditing');
    $node->safe_psql('postgres', 'UPDATE t SET a = 1 WHERE k = 500');
    clear_point($node);
    is(wait_job($node, $job), 'done', "$method, a key that is not valid: done")
        or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"));
    is($node->safe_psql('postgres', 'SELECT a FROM t WHERE k = 500'), '1', "$method, a key that is not valid: the row is there");
    is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job"), '1', "$method, a key that is not valid: built once");
    same_text(keys_of(), $before, "$method, a key that is not valid: the keys are what they were");
    check_clean($node, "$method, a key that is not valid");

    #
    # Rows that refer to nothing
    #
    make_tables();
    $before = keys_of();
    $job = start($method, 'SELECT k, a, g, CASE WHEN k = 500 THEN 100 ELSE o END AS o FROM raw', 'keep_old => false');
    is(wait_job($node, $job), 'failed', "$method, a row that refers to nothing: refused");
    is($node->safe_psql('postgres', "SELECT sqlstate FROM backfill_progress WHERE job = $job"), '23503', "$method, a row that refers to nothing: the error");
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$method, a row that refers to nothing: canceled");
    wait_job($node, $job);
    same_text(keys_of(), $before, "$method, a row that refers to nothing: no trigger is left");
    check_clean($node, "$method, a row that refers to nothing");

    #
    # A job that waits for its publication keeps nobody from deleting what it refers to
    #
    make_tables();
    $before = keys_of();
    $node->safe_psql('postgres', 'UPDATE raw SET a = 77');
    $job = start($method, 'raw', "keep_old => false, publish => 'manual'");
    is(wait_job($node, $job), 'ready', "$method, manual: ready");
    is($node->safe_psql('postgres', q{DELETE FROM account WHERE a = 77; SELECT count(*) FROM account}), '99', "$method, manual: a row is deleted");
    ($sqlstate) = error_of($node, "SELECT backfill_publish($job)");
    isnt($sqlstate, 'none', "$method, manual: rows that refer to it are not published");
    is(orphans(), '0', "$method, manual: each key refers to a row");
    $node->safe_psql('postgres', 'INSERT INTO account VALUES (77)');
    $node->safe_psql('postgres', "SELECT backfill_retry($job)");
    wait_job($node, $job);
    is($node->safe_psql('postgres', "SELECT backfill_publish($job)"), '1', "$method, manual: published once it is there again");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t_1 WHERE a = 77'), '500', "$method, manual: the new rows are there");
    same_text(keys_of(), $before, "$method, manual: the keys are what they were");
    check_clean($node, "$method, manual");
}

$node->stop;
done_testing();
