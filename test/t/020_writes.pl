# No write is lost: whatever is written to a partition while it is rebuilt is in the table when the job is done. The
# source is the table itself, read while a gate holds the build up: a write that were not noticed would be undone.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('writes', settings => [ 'max_prepared_transactions = 10', 'wal_level = logical', 'max_wal_senders = 4' ]);
my $holder = session($node);
my $method = $ENV{BACKFILL_SWAP} // 'attach'; # the other one: 022_writes_storage.pl
my $from_raw = q{$$SELECT k, v FROM raw WHERE pass_gate(1)$$};
my $source = q{$$SELECT k, v FROM t WHERE pass_gate(1)$$};
my $content = q{SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY k, v)), '-') FROM t};

sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, raw, other;
        CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199, 2) AS k;
        CREATE TABLE raw AS SELECT * FROM t;
        CREATE TABLE other (k int);
SQL
    return;
}

# start_held($options, $from): a job whose first build has its snapshot and stands at the gate.
sub start_held {
    my ($options, $from) = @_;
    close_gate($holder, 1);
    my $job = start_job($node, "'t', " . ($from // $source) . ", swap => '$method', delay => '0', keep_old => false" . ($options // ''));
    await_at_gate($node, 1);
    return $job;
}

sub rebuilds {
    my ($job, $ordinal) = @_;
    return $node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $job AND ordinal = $ordinal");
}

# check_kept($title, $job, $expected, $rebuilt): opens the gate; the job is done and the table is as it was.
sub check_kept {
    my ($title, $job, $rebuilt, $expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $expected //= $node->safe_psql('postgres', $content);
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', $content), $expected, "$title: every write is in the table, and no other");
    is(rebuilds($job, 1), $rebuilt, "$title: rebuilt as often as it had to be");
    check_clean($node, $title);
    return;
}

#
# Each kind of write, in one transaction between the build's snapshot and its swap
#
my @kinds = (
    [ 'INSERT through the parent', q{INSERT INTO t VALUES (1, 'w')} ],
    [ 'INSERT into the leaf', q{INSERT INTO t_1 VALUES (1, 'w')} ],
    [ 'UPDATE', q{UPDATE t SET v = 'w' WHERE k = 2} ],
    [ 'DELETE', q{DELETE FROM t WHERE k = 2} ],
    [ 'DELETE of the leaf', q{DELETE FROM t_1 WHERE k = 2} ],
    [ 'UPDATE out of the partition', q{UPDATE t SET k = 101 WHERE k = 2} ],
    [ 'UPDATE into the partition', q{UPDATE t SET k = 1 WHERE k = 102} ],
    [ 'ON CONFLICT DO UPDATE', q{INSERT INTO t VALUES (2, 'w') ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v} ],
    [ 'MERGE', <<'SQL' ],
        MERGE INTO t USING (VALUES (1), (2), (4)) AS n (k) ON t.k = n.k
        WHEN MATCHED AND n.k = 4 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'w' WHEN NOT MATCHED THEN INSERT VALUES (n.k, 'w')
SQL
    [ 'COPY', "COPY t FROM stdin;\n1\tw\n3\tw\n\\.\n" ],
    [ 'COPY into the leaf', "COPY t_1 FROM stdin;\n1\tw\n\\.\n" ],
    # These want the partition for themselves: the source is what they were derived from.
    [ 'COPY FREEZE', q{BEGIN; DELETE FROM raw WHERE k < 100; INSERT INTO raw VALUES (1, 'w'); TRUNCATE t_1;}
            . " COPY t_1 FROM stdin WITH (FREEZE);\n1\tw\n\\.\nCOMMIT", $from_raw ],
    [ 'TRUNCATE of the leaf', 'BEGIN; DELETE FROM raw WHERE k < 100; TRUNCATE t_1; COMMIT', $from_raw ],
    [ 'TRUNCATE of the parent', 'BEGIN; DELETE FROM raw; TRUNCATE t; COMMIT', $from_raw ],
    [ 'TRUNCATE, session_replication_role = replica',
        'BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM raw WHERE k < 100; TRUNCATE t_1; COMMIT', $from_raw ],
    [ 'a write in a transaction that truncates elsewhere',
        q{BEGIN; INSERT INTO raw VALUES (1, 'w'); DELETE FROM raw WHERE k >= 100; INSERT INTO t VALUES (1, 'w'); TRUNCATE t_2; COMMIT}, $from_raw ],
    [ 'a trigger that writes', <<'SQL' ],
        CREATE OR REPLACE FUNCTION write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t WHERE k = NEW.k; RETURN NULL; END $$;
        CREATE TRIGGER write AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION write();
        INSERT INTO other VALUES (2)
SQL
    [ 'session_replication_role = replica', q{SET session_replication_role = replica; INSERT INTO t VALUES (1, 'w')} ],
    [ 'SERIALIZABLE', q{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM t; INSERT INTO t VALUES (1, 'w'); COMMIT} ],
    [ 'ROLLBACK TO, then a write', <<'SQL' ],
        BEGIN; SAVEPOINT a; INSERT INTO t VALUES (1, 'no'); ROLLBACK TO a; INSERT INTO t VALUES (3, 'w'); COMMIT
SQL
    [ 'savepoints in savepoints', <<'SQL' ],
        BEGIN; SAVEPOINT a; SAVEPOINT b; INSERT INTO t VALUES (1, 'no'); RELEASE b; ROLLBACK TO a; INSERT INTO t VALUES (3, 'w');
        SAVEPOINT c; INSERT INTO t VALUES (5, 'no'); ROLLBACK TO c; RELEASE c; COMMIT
SQL
    [ 'a mark of a released savepoint', <<'SQL' ],
        BEGIN; SAVEPOINT a; INSERT INTO t VALUES (1, 'w'); RELEASE a; INSERT INTO t VALUES (3, 'w'); COMMIT
SQL
    [ 'a block with an exception', <<'SQL' ],
        DO $$ BEGIN
            BEGIN INSERT INTO t VALUES (1, 'no'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
            INSERT INTO t VALUES (3, 'w');
        END $$
SQL
    [ 'a procedure that commits', <<'SQL' ],
        DO $$ BEGIN INSERT INTO t VALUES (1, 'w'); COMMIT; INSERT INTO t VALUES (3, 'w'); ROLLBACK; INSERT INTO t VALUES (5, 'w'); END $$
SQL
    [ 'COMMIT PREPARED', q{BEGIN; INSERT INTO t VALUES (1, 'w'); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'} ],
    [ 'two partitions in one transaction', q{BEGIN; INSERT INTO t VALUES (101, 'w'); INSERT INTO t VALUES (1, 'w'); COMMIT} ],
    [ 'a role with no right but to insert', <<'SQL' ],
        SET client_min_messages = warning; DROP OWNED BY writer; DROP ROLE writer; CREATE ROLE writer; GRANT INSERT ON t TO writer;
        SET ROLE writer; INSERT INTO t VALUES (1, 'w')
SQL
    [ 'a row locked, then deleted by its cursor', <<'SQL' ],
        BEGIN; DECLARE c CURSOR FOR SELECT * FROM t_1 WHERE k = 2 FOR UPDATE; FETCH c; DELETE FROM t_1 WHERE CURRENT OF c; COMMIT
SQL
);
$node->safe_psql('postgres', 'CREATE ROLE writer');
for my $kind (@kinds) {
    my ($title, $statements, $from) = @$kind;
    make_table();
    my $job = start_held('', $from);
    $node->safe_psql('postgres', "SET lock_timeout = '20 s'; $statements");
    check_kept($title, $job, 1);
}

# Statements that change nothing, and writes that are rolled back, cost nothing.
for my $kind (
    [ 'a write that is rolled back', q{BEGIN; INSERT INTO t VALUES (1, 'no'); ROLLBACK} ],
    [ 'ROLLBACK TO, and no write', q{BEGIN; SAVEPOINT a; DELETE FROM t WHERE k < 50; ROLLBACK TO a; COMMIT} ],
    [ 'ROLLBACK PREPARED', q{BEGIN; DELETE FROM t_1; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'} ],
    [ 'an UPDATE without a row', q{UPDATE t SET v = 'no' WHERE k = 1} ],
    [ 'ON CONFLICT DO NOTHING', q{INSERT INTO t VALUES (2, 'no') ON CONFLICT DO NOTHING} ],
    [ 'a write elsewhere', q{INSERT INTO t VALUES (101, 'w')} ],
    [ 'row locks', q{BEGIN; SELECT count(*) FROM (SELECT FROM t FOR UPDATE) AS s; COMMIT} ]) {
    my ($title, $statements) = @$kind;
    make_table();
    my $job = start_held();
    $node->safe_psql('postgres', $statements);
    check_kept($title, $job, 0);
}

# Without the guard the same writes are lost: the test would notice.
{
    make_table();
    my $expected = $node->safe_psql('postgres', $content);
    my $job = start_held(q{, on_write => 'ignore'});
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%'}), '0', 'ignore: no guard');
    $node->safe_psql('postgres', q{INSERT INTO t VALUES (1, 'w')});
    check_kept('ignore', $job, 0, $expected);
}

#
# Writers that are there before, and across the snapshot
#
{
    my $title = 'a writer from before the guard';
    make_table();
    my $writer = session($node);
    my $pid = $writer->query_safe('SELECT pg_backend_pid()');
    $writer->query_safe(q{BEGIN; INSERT INTO t VALUES (1, 'w')});
    my $job = start_job($node, qq{'t', 't', swap => '$method', delay => '0', keep_old => false});
    await_partition($node, $job, 1, q{state = 'pending' AND waiting_on LIKE '%held by%' AND swap_attempts >= 2});
    is($node->safe_psql('postgres', "SELECT waiting_on, attempts FROM backfill_progress WHERE job = $job AND ordinal = 1"),
        "lock (held by $pid)|0", "$title: it is waited for, by name, and no attempt is counted");
    $writer->query_safe(q{INSERT INTO t VALUES (3, 'w'); COMMIT});
    is(wait_job($node, $job), 'done', "$title: the job is done once it has ended");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE v = 'w'}), '2', "$title: its rows are there");
    is(rebuilds($job, 1), '0', "$title: and nothing had to be rebuilt");
    $writer->quit;
    check_clean($node, $title);
}
{
    my $title = 'a prepared writer from before the guard';
    make_table();
    $node->safe_psql('postgres', q{BEGIN; INSERT INTO t VALUES (1, 'w'); PREPARE TRANSACTION 'old one'});
    my $job = start_job($node, qq{'t', 't', swap => '$method', delay => '0', keep_old => false});
    await_partition($node, $job, 1, q{state = 'pending' AND waiting_on = 'lock (held by prepared transaction "old one")'});
    $node->safe_psql('postgres', q{COMMIT PREPARED 'old one'});
    is(wait_job($node, $job), 'done', "$title: the job is done once it has ended");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE v = 'w'}), '1', "$title: its row is there");
    check_clean($node, $title);
}
{
    my $title = 'a writer across the snapshot';
    make_table();
    # Each build learns from its own snapshot at which gate it stands.
    $node->safe_psql('postgres', 'CREATE TABLE gate AS SELECT 1 AS number');
    # A swap gives way to whoever is older than its lock_timeout before it looks for writes, however slow the machine is.
    my $job = start_held(q{, lock_timeout => '1 minute'}, q{$$SELECT k, v FROM t WHERE pass_gate((SELECT number FROM gate))$$});
    my $writer = session($node);
    $writer->query_safe(q{BEGIN; INSERT INTO t VALUES (1, 'w')});
    $node->safe_psql('postgres', q{INSERT INTO t VALUES (3, 'w')}); # has the partition built again
    my $second = session($node);
    close_gate($second, 2);
    # The second build stands at the gate, its snapshot taken while the writer was there.
    $node->safe_psql('postgres', 'UPDATE gate SET number = 2');
    open_gate($holder, 1);
    await_at_gate($node, 2);
    is(rebuilds($job, 1), '1', "$title: it is built again");
    $writer->query_safe('COMMIT');
    my $expected = $node->safe_psql('postgres', $content);
    open_gate($second, 2);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', $content), $expected, "$title: its row is there");
    is(rebuilds($job, 1), '2', "$title: it is built a third time for it");
    check_clean($node, $title);
    $_->quit for $writer, $second;
    $node->safe_psql('postgres', 'DROP TABLE gate');
}

#
# What fires no trigger
#
for my $kind (
    [ 'triggers switched off for a while', q{ALTER TABLE t_1 DISABLE TRIGGER ALL; UPDATE t_1 SET v = 'w'; ALTER TABLE t_1 ENABLE TRIGGER ALL} ],
    [ 'a rewrite of the table', 'VACUUM FULL t_1', 0 ],
    [ 'a rewrite after a write', q{UPDATE t_1 SET v = 'w'; VACUUM FULL t_1} ],
    [ 'a rewrite with other values', q{ALTER TABLE t ALTER v TYPE text USING upper(v)} ]) {
    my ($title, $statements, $expected) = @$kind;
    make_table();
    my $job = start_held('', $from_raw);
    $node->safe_psql('postgres', $_) for split /; /, $statements;
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is(rebuilds($job, 1), $expected // 1, "$title: the partition is built again if it must");
    check_clean($node, $title);
}

#
# A partition that is written to during every build
#
{
    my $title = 'writes without an end';
    make_table();
    # Each build sees to it that the partition is written to before it ends.
    $node->safe_psql('postgres', <<'SQL');
        CREATE EXTENSION dblink;
        CREATE FUNCTION write_once(int) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            -- The last build of the storage method holds writers: this one would wait for it for ever.
            IF EXISTS (SELECT FROM backfill_progress AS p JOIN backfill_job AS j ON j.job = p.job
                       WHERE p.state = 'running' AND p.rebuilds = 3 AND j.swap = 'storage') THEN
                RETURN true;
            END IF;
            PERFORM dblink_exec('dbname=postgres host=' || split_part(current_setting('unix_socket_directories'), ',', 1)
                || ' port=' || current_setting('port'), $i$INSERT INTO t VALUES (1, '1') ON CONFLICT (k) DO UPDATE SET v = t.v || '1'$i$);
            RETURN true;
        END $$
SQL
    my $job = start_job($node, qq{'t', 'SELECT k, v FROM raw WHERE CASE k WHEN 2 THEN write_once(k) ELSE true END', swap => '$method', delay => '0', keep_old => false});
    if ($method eq 'storage') {
        is(wait_job($node, $job), 'done', "$title: the last build keeps them out");
        is($node->safe_psql('postgres', "SELECT state, rebuilds FROM backfill_progress WHERE job = $job AND ordinal = 1"), 'done|3',
            "$title: it is built four times");
    } else {
        is(wait_job($node, $job), 'failed', "$title: the job fails");
        is($node->safe_psql('postgres', "SELECT state, rebuilds, attempts, sqlstate, error FROM backfill_progress WHERE job = $job AND ordinal = 1"),
            'failed|3|4|55006|partition "public.t_1" was modified during every build' . "\n"
                . 'Detail: It was written to during each of 4 builds.' . "\n"
                . q{Hint: Start the job again with on_write => 'catch_up' or 'block', or with swap => 'storage'.}, "$title: it is built four times");
        is(states($node, $job), 'failed done', "$title: the other partition is done");
        is($node->safe_psql('postgres', 'SELECT v FROM t WHERE k = 1'), '1111', "$title: every write is in the table");
    }
    check_clean($node, $title);
    $job = start_job($node, qq{'t', 'SELECT k, v FROM raw WHERE pass_gate(1)', swap => '$method', delay => '0', keep_old => false, on_write => 'block'});
    is(wait_job($node, $job), 'done', "$title: with writers kept out it can be done");
    check_clean($node, $title);
}

#
# What is left of a job that is given up
#
{
    my $title = 'a cancel';
    make_table();
    my $job = start_held();
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 't_1'::regclass AND tgname LIKE 'partbackfill%'}), '2',
        "$title: the guard is there");
    $node->safe_psql('postgres', q{INSERT INTO t VALUES (1, 'w')});
    my $expected = $node->safe_psql('postgres', $content);
    # A reader is no reason for the guard to stay.
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    cancel_job($node, $job);
    is(wait_job($node, $job), 'canceled', "$title: it is over");
    check_clean($node, $title);
    is($node->safe_psql('postgres', $content), $expected, "$title: the table is as it was");
    $reader->query_safe('COMMIT');
    $reader->quit;
    open_gate($holder, 1);
}
{
    my $title = 'a partition that is detached';
    make_table();
    my $job = start_held('', $from_raw);
    $node->safe_psql('postgres', 'ALTER TABLE t DETACH PARTITION t_1');
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is(states($node, $job), 'skipped done', "$title: without it");
    check_clean($node, $title);
    $node->safe_psql('postgres', 'DROP TABLE t_1');
}
{
    my $title = 'a stranger who uses the trigger function';
    my ($sqlstate) = error_of($node, q{CREATE TABLE x (a int); CREATE TRIGGER x AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION backfill_guard('1'); INSERT INTO x VALUES (1)});
    is($sqlstate, '39P01', "$title: gets an error");
    $node->safe_psql('postgres', 'DROP TABLE x');
    ($sqlstate) = error_of($node, q{CREATE TABLE x (a int); ALTER TABLE x OWNER TO writer; SET ROLE writer;}
            . q{ CREATE TRIGGER x AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION backfill_guard('1')});
    is($sqlstate, '42501', "$title: may not");
    $node->safe_psql('postgres', 'DROP TABLE IF EXISTS x');
}

#
# What a subscription applies
#
{
    my $title = 'logical replication';
    make_table();
    $node->safe_psql('postgres', 'CREATE DATABASE publisher');
    $node->safe_psql('publisher', <<'SQL');
        CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL);
        CREATE PUBLICATION p FOR TABLE t;
        SELECT pg_create_logical_replication_slot('s', 'pgoutput');
SQL
    $node->safe_psql('postgres', q{CREATE SUBSCRIPTION s CONNECTION $$} . $node->connstr('publisher')
            . q{$$ PUBLICATION p WITH (create_slot = false, slot_name = 's', copy_data = false)});
    my $job = start_held();
    $node->safe_psql('publisher', q{INSERT INTO t VALUES (1, 'w'), (101, 'w'); UPDATE t SET v = 'w2' WHERE k = 1});
    await($node, q{SELECT count(*) = 2 FROM t WHERE v LIKE 'w%'});
    check_kept($title, $job, 1);
    $node->safe_psql('postgres', 'ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s');
}

$holder->quit;
$node->stop;
done_testing();
