# swap => 'storage': what is locked, what becomes of files, keys and old rows, and whether amcheck finds the partition sound
# after all that can happen to it next: a crash, a standby, VACUUM FULL, ALTER TABLE, REINDEX, another backfill.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('storage', allows_streaming => 1);
$node->safe_psql('postgres', <<'SQL');
    CREATE EXTENSION amcheck;
    CREATE EXTENSION pg_visibility;
    CREATE TABLE cat (c int PRIMARY KEY);
    INSERT INTO cat SELECT generate_series(0, 9);
    CREATE TABLE t (k int PRIMARY KEY, junk text, v text NOT NULL, c int REFERENCES cat, n int CHECK (n >= 0))
        PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (500);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (500) TO (1000);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (1000) TO (1500);
    CREATE TABLE t_rest PARTITION OF t DEFAULT;
    CREATE INDEX t_v ON t (md5(v), c);
    CREATE INDEX t_hash ON t USING hash (n);
    CREATE INDEX t_brin ON t USING brin (k);
    CREATE INDEX t_1_gin ON t_1 USING gin (to_tsvector('simple', left(v, 100)));
    CREATE STATISTICS t_1_both ON c, n FROM t_1;
    INSERT INTO t
    SELECT k, 'junk', (SELECT string_agg(md5(k::text || g), '') FROM generate_series(1, 1 + k % 200) AS g), k % 10, k % 7
    FROM generate_series(0, 1499) AS k;
    ALTER TABLE t DROP junk, ADD fast text DEFAULT 'fast';
    CREATE TABLE child (k int REFERENCES t);
    INSERT INTO child VALUES (5), (505), (1005);
    CREATE VIEW corrected AS SELECT k, 'new ' || v AS v, c, n + 1 AS n, fast FROM t WHERE v NOT LIKE 'new %'
        UNION ALL SELECT k, v, c, n, fast FROM t WHERE v LIKE 'new %';
    ANALYZE t;
SQL

# What amcheck says of the table's heaps, TOAST tables and btrees, and whether every other index gives every row.
my $sound = <<'SQL';
    WITH heap AS (SELECT relid AS oid FROM pg_partition_tree('t') WHERE isleaf),
    btree AS (SELECT i.indexrelid AS oid
              FROM pg_class AS c
              JOIN heap AS h ON c.oid = h.oid
              JOIN pg_index AS i ON i.indrelid IN (c.oid, c.reltoastrelid)
              JOIN pg_class AS ic ON ic.oid = i.indexrelid
              JOIN pg_am AS a ON a.oid = ic.relam AND a.amname = 'btree')
    SELECT concat_ws(' ', h.oid::regclass, r.blkno, r.msg)
    FROM heap AS h, verify_heapam(h.oid, check_toast => true) AS r
    UNION ALL
    SELECT 'checked' FROM (SELECT bt_index_check(oid, true) FROM btree) AS b GROUP BY () HAVING count(*) = 0;
    SET enable_seqscan = off;
    SET enable_indexscan = off;
    SELECT CASE WHEN (SELECT sum((SELECT count(*) FROM t WHERE n = m)) FROM generate_series(0, 10) AS m) <> 1500 THEN 'hash' END;
    SELECT CASE WHEN (SELECT count(*) FROM t WHERE k BETWEEN 0 AND 1499) <> 1500 THEN 'brin' END;
    SELECT CASE WHEN (SELECT count(*) FROM t WHERE length(v) >= 32 AND fast = 'fast') <> 1500 THEN 'rows' END;
SQL

sub is_sound {
    my ($on, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($code, $out, $err) = $on->psql('postgres', $sound);
    $out =~ s/^\n+|\n+$//g;
    return is("$out$err", '', "$title: sound");
}

sub run_storage {
    my ($more, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $job = start_job($node, "'t', 'corrected', swap => 'storage', delay => '0', $more");
    is(wait_job($node, $job), 'done', "$title: done");
    return $job;
}

#
# What is locked while the files are exchanged, and what stays
#
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE locks_seen (relation text, mode text);
    CREATE FUNCTION see_locks() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF current_setting('application_name') LIKE 'partbackfill%' OR EXISTS (
            SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'partbackfill worker'
               AND query LIKE '%: swapping%') THEN
            INSERT INTO public.locks_seen
            SELECT relname, mode FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
            WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384 AND relnamespace = 'public'::regnamespace
              AND relname NOT LIKE 'backfill%' AND relname <> 'locks_seen';
        END IF;
    END
    $$;
    CREATE EVENT TRIGGER see_locks ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION see_locks();
SQL
# A row with two lockers, which it names by a multixact.
$node->safe_psql('postgres', <<'SQL');
    BEGIN;
    SELECT k FROM t_1 WHERE k = 7 FOR KEY SHARE;
    SAVEPOINT s;
    SELECT k FROM t_1 WHERE k = 7 FOR UPDATE;
    COMMIT;
SQL
my $before = $node->safe_psql('postgres', "SELECT oid, reltype FROM pg_class WHERE relname LIKE 't\\_%' AND relnamespace = 'public'::regnamespace ORDER BY oid");
my $files = $node->safe_psql('postgres', q{SELECT pg_relation_filenode('t_1')});
my $job = run_storage(q{partitions => '{t_1}'}, 'one partition');
is($node->safe_psql('postgres', "SELECT DISTINCT relation, mode FROM locks_seen WHERE mode = 'AccessExclusiveLock' ORDER BY 1"),
    join("\n", map { "$_|AccessExclusiveLock" } 't_1', 't_1_gin', 't_1_k_idx', 't_1_md5_c_idx', 't_1_n_idx', 't_1_pkey'),
    'locks: the partition with its indexes, not what its foreign key refers to');
is($node->safe_psql('postgres', "SELECT count(*) FROM locks_seen WHERE relation IN ('t', 't_2', 't_3', 't_rest', 'child')"),
    '0', 'locks: neither the parent nor a sibling, not even to read');
$node->safe_psql('postgres', 'DROP EVENT TRIGGER see_locks');
is($node->safe_psql('postgres', "SELECT oid, reltype FROM pg_class WHERE relname LIKE 't\\_%' AND relnamespace = 'public'::regnamespace ORDER BY oid"), $before,
    'the partitions are the same tables');
isnt($node->safe_psql('postgres', q{SELECT pg_relation_filenode('t_1')}), $files, 'in another file');
is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v LIKE 'new %' AND n > 0) FROM t_1"), '500|500',
    'with the corrected rows');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_visibility('t_1') WHERE NOT (all_visible AND all_frozen)}), '0',
    'every page is all-visible and all-frozen');
is($node->safe_psql('postgres', <<'SQL'), "500|t|t\n5\n1\n1\nt", 'what is known of the rows came with them');
    SELECT reltuples, relpages = pg_relation_size('t_1') / 8192, relallvisible = relpages FROM pg_class WHERE oid = 't_1'::regclass;
    SELECT count(*) FROM pg_stats WHERE tablename = 't_1';
    SELECT count(*) FROM pg_stats WHERE tablename = 't_1_md5_c_idx';
    SELECT count(*) FROM pg_stats_ext WHERE statistics_name = 't_1_both' AND n_distinct IS NOT NULL;
    SELECT left((most_common_vals::text::int[])[1]::text, 1) IS NOT NULL AND min(n) = 1 FROM pg_stats, t_1
    WHERE tablename = 't_1' AND attname = 'n' GROUP BY most_common_vals::text;
SQL
is($node->safe_psql('postgres', <<'SQL'), "t|t\nt|t", 'each TOAST table has the name and the dependency of its table');
    SELECT toast.relname = 'pg_toast_' || c.oid, EXISTS (SELECT FROM pg_depend WHERE objid = toast.oid AND refobjid = c.oid)
    FROM pg_class AS c JOIN pg_class AS toast ON toast.oid = c.reltoastrelid
    WHERE c.relname = 't_1' ORDER BY c.oid
SQL
is_sound($node, 'swapped');

# What watched for writes leaves nothing behind, not even the mark of a table that once had triggers.
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE plain (k int) PARTITION BY RANGE (k);
    CREATE TABLE plain_1 PARTITION OF plain FOR VALUES FROM (0) TO (10);
SQL
is(wait_job($node, start_job($node, "'plain', 'plain', swap => 'storage', keep_old => false")), 'done', 'without triggers: done');
is($node->safe_psql('postgres', "SELECT hastriggers FROM pg_tables WHERE tablename = 'plain_1' AND schemaname = 'public'"), 'f',
    'without triggers: nor is it marked as if');
$node->safe_psql('postgres', 'DROP TABLE plain');

#
# The old rows
#
is($node->safe_psql('postgres', "SELECT * FROM verify_heapam('backfill_${job}_old.t_1', check_toast => true)"), '',
    'old rows: sound, no transaction that they name is older than their table says');
is($node->safe_psql('postgres', "SELECT oid::regclass FROM pg_class WHERE relrewrite <> 0 AND relnamespace = 'backfill_${job}_old'::regnamespace"), '',
    'old rows: nothing is marked as being rewritten');
# A dump has them whole, with their columns, although the partition inherits those.
{
    my $dump = $node->basedir . '/kept.sql';
    $node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-n', "backfill_${job}_old", '-f', $dump ], 'old rows: dumped');
    $node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
    $node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'old rows: restored');
    is($node->safe_psql('restored', "SELECT count(*), sum(length(v)), min(fast) FROM backfill_${job}_old.t_1"),
        $node->safe_psql('postgres', "SELECT count(*), sum(length(v)), min(fast) FROM backfill_${job}_old.t_1"), 'old rows: the same');
    my ($state) = error_of($node, "INSERT INTO backfill_${job}_old.t_1 (k, v) VALUES (3, NULL)");
    is($state, '23502', 'old rows: their table has its NOT NULL');
    $node->safe_psql('postgres', "ALTER TABLE backfill_${job}_old.t_1 ALTER v DROP NOT NULL, ALTER n TYPE bigint");
    $node->safe_psql('postgres', 'DROP DATABASE restored');
}
is($node->safe_psql('postgres', "SELECT count(*), min(fast), sum(length(v)) FROM backfill_${job}_old.t_1"),
    $node->safe_psql('postgres', "SELECT count(*), 'fast', sum(length(v) - 4) FROM t_1"),
    'old rows: they can be read, long values and values that no row has too');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_constraint WHERE conrelid = 'backfill_${job}_old.t_1'::regclass AND contype = 'f'"),
    '0', 'old rows: they refer to nothing any more');
is($node->safe_psql('postgres', "SELECT * FROM verify_heapam('backfill_${job}_old.t_1', check_toast => true)"), '',
    'old rows: sound');
is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '1', 'old rows: purged');
check_clean($node, 'old rows');

#
# What comes after
#
run_storage('keep_old => false', 'all partitions');
$node->stop('immediate');
$node->start;
is_sound($node, 'after a crash');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
run_storage('keep_old => false', 'with a standby');
$node->wait_for_catchup($standby);
is_sound($standby, 'on the standby');
$standby->promote;
$standby->safe_psql('postgres', "UPDATE t SET fast = 'fast'; VACUUM FULL t_1");
is_sound($standby, 'on the promoted standby, written');
$standby->stop;
for my $change ('VACUUM (FULL, ANALYZE) t_1', 'ALTER TABLE t ADD more float DEFAULT random()', 'ALTER TABLE t DROP more',
    'REINDEX TABLE t_1', 'UPDATE t SET c = 3 WHERE k % 5 = 0', 'VACUUM t', 'CLUSTER t_1 USING t_1_pkey') {
    $node->safe_psql('postgres', "SET client_min_messages = error; $change");
    is_sound($node, $change);
}
run_storage('keep_old => false', 'again');
is_sound($node, 'again');
check_clean($node, 'again');

#
# Transactions that are older than the swap
#
my $old = session($node);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1');
my $prepared = session($node);
$prepared->query_safe('PREPARE p AS SELECT count(*) FROM t WHERE md5(v) IS NOT NULL AND k BETWEEN 0 AND 499');
$prepared->query_safe('EXECUTE p') for 1 .. 6;
run_storage(q{partitions => '{t_1}', keep_old => false}, 'beside old transactions');
is($old->query_safe('SELECT count(*) FROM t_1'), '500', 'a REPEATABLE READ transaction sees a whole partition');
$old->query_safe('COMMIT');
is($prepared->query_safe('EXECUTE p'), '500', 'a prepared statement goes on');
$prepared->quit;

# Of two transactions each reads what the other writes: the later one has to fail, though the rows that the first has
# read lie elsewhere by then.
$node->safe_psql('postgres', 'CREATE TABLE other (x int); INSERT INTO other VALUES (1)');
my $later = session($node);
$later->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT x FROM other');
$old->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off');
is($old->query_safe('SELECT k FROM t_1 WHERE k = 7'), '7', 'serializable: one reads');
$old->query_safe('UPDATE other SET x = 2; COMMIT');
$node->safe_psql('postgres', 'CREATE VIEW the_other_way_round AS SELECT * FROM corrected ORDER BY k DESC');
$job = start_job($node, q{'t', 'the_other_way_round', swap => 'storage', partitions => '{t_1}', keep_old => false});
is(wait_job($node, $job), 'done', 'serializable: a swap');
$later->query('DELETE FROM t_1 WHERE k = 7');
$later->query('COMMIT');
is($node->safe_psql('postgres', 'SELECT count(*) FROM t_1 WHERE k = 7'), '1', 'serializable: the other is not committed');
$later->quit;

# The same without an index.
$later = session($node);
$later->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT x FROM other');
$old->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE');
my $first = $old->query_safe(q{SELECT k FROM t_1 WHERE ctid = '(0,1)'});
$old->query_safe('UPDATE other SET x = 2; COMMIT');
$job = start_job($node, q{'t', 'SELECT * FROM corrected ORDER BY k', swap => 'storage', partitions => '{t_1}', keep_old => false});
is(wait_job($node, $job), 'done', 'serializable: a swap that puts rows into another order');
isnt($node->safe_psql('postgres', q{SELECT k FROM t_1 WHERE ctid = '(0,1)'}), $first, 'serializable: it is elsewhere');
$later->query("DELETE FROM t_1 WHERE k = $first");
$later->query('COMMIT');
is($node->safe_psql('postgres', "SELECT count(*) FROM t_1 WHERE k = $first"), '1', 'serializable: nor is one that reads by place');
$later->quit;

# The same when the first has found nothing: what it saw is a gap in an index.
# The update splits its pages, so that the gap is in another than in an index that is new.
$node->safe_psql('postgres', 'UPDATE t SET c = (c + 1) % 10 WHERE k < 500; DELETE FROM t WHERE k = 300; VACUUM t');
$later = session($node);
$later->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT x FROM other');
$old->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off');
is($old->query_safe('SELECT count(*) FROM t_1 WHERE k = 300'), '0', 'serializable: one finds nothing');
$old->query_safe('UPDATE other SET x = 3; COMMIT');
run_storage(q{partitions => '{t_1}', keep_old => false}, 'serializable, a gap');
$later->query(q{INSERT INTO t_1 (k, v, c, n) VALUES (300, 'late', 1, 1)});
$later->query('COMMIT');
is($node->safe_psql('postgres', 'SELECT count(*) FROM t_1 WHERE k = 300'), '0', 'serializable: the other does not put it in');
$later->quit;
$node->safe_psql('postgres', q{INSERT INTO t (k, v, c, n) VALUES (300, 'new ' || repeat('x', 40), 0, 1)});

#
# A reader in the way
#
$old->query_safe('BEGIN; SELECT 1 FROM t_1 LIMIT 1');
my $swapping = start_job($node, q{'t', 'corrected', swap => 'storage', delay => '0', partitions => '{t_1}', keep_old => false, lock_timeout => '10 ms'});
await_partition($node, $swapping, 1, 'swap_attempts >= 2');
my $reader = $old->query_safe('SELECT pg_backend_pid()');
ok($node->poll_query_until('postgres', "SELECT waiting_on LIKE '%$reader%' FROM backfill_progress WHERE job = $swapping"),
    'a reader is in the way, and named');
is($node->safe_psql('postgres', q{SET statement_timeout = '5 s'; SELECT count(*) FROM t WHERE k >= 500}), '1000',
    'others read on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'partbackfill worker')}),
    '0', 'the parent is not locked while the swap waits');
$old->query_safe('COMMIT');
is(wait_job($node, $swapping), 'done', 'then it swaps');
$old->quit;

#
# Keys
#
$job = start_job($node, q{'t', 'SELECT * FROM corrected WHERE k <> 100', swap => 'storage', delay => '0', partitions => '{t_1}', max_attempts => 1});
is(wait_job($node, $job), 'failed', 'key in: a key that could be referred to is missing');
like($node->safe_psql('postgres', "SELECT sqlstate || ' ' || error FROM backfill_progress WHERE job = $job"),
    qr/^23503 the rebuilt rows of partition "t_1" lack a key.*Key \(k\)=\(100\)/s, 'key in: it is named');
is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', 'key in: tidied');
$job = start_job($node, q{'t', 'SELECT k, v, 10 AS c, n, fast FROM corrected', swap => 'storage', delay => '0', partitions => '{t_1}', max_attempts => 1});
is(wait_job($node, $job), 'failed', 'key out: a row refers to nothing');
like($node->safe_psql('postgres', "SELECT sqlstate || ' ' || error FROM backfill_progress WHERE job = $job"),
    qr/^23503 .*Key \(c\)=\(10\) is not present in table "cat"/s, 'key out: it is named');
$node->safe_psql('postgres', "SELECT backfill_cancel($job)");
wait_job($node, $job);
check_clean($node, 'keys');

$job = start_job($node, q{'t', 'SELECT k, v, c, -1 AS n, fast FROM corrected', swap => 'storage', delay => '0', partitions => '{t_1}', max_attempts => 1});
is(wait_job($node, $job), 'failed', 'a row that a CHECK forbids');
like($node->safe_psql('postgres', "SELECT sqlstate || ' ' || error FROM backfill_progress WHERE job = $job"),
    qr/^23514 .*violates check constraint "t_n_check"/s, 'a row that a CHECK forbids: it is named');
$node->safe_psql('postgres', "SELECT backfill_cancel($job)");
wait_job($node, $job);

my $writer = session($node);
$writer->query_safe('BEGIN; INSERT INTO cat VALUES (10)');
$job = start_job($node, q{'t', 'corrected', swap => 'storage', delay => '0', partitions => '{t_1}', keep_old => false});
await_partition($node, $job, 1, 'swap_attempts >= 2');
is($node->safe_psql('postgres', q{SET statement_timeout = '5 s'; SELECT count(*) FROM cat; SELECT count(*) FROM t_1}), "10\n500",
    'a writer of the table referred to is in the way, and stalls nobody');
$writer->query_safe('COMMIT');
is(wait_job($node, $job), 'done', 'then it swaps');
is($node->safe_psql('postgres', <<'SQL'), "1\n1", 'the keys are as they were');
    SELECT count(*) FROM pg_constraint WHERE conrelid = 't_1'::regclass AND contype = 'f' AND convalidated;
    SELECT count(*) FROM pg_constraint WHERE confrelid = 't_1'::regclass AND contype = 'f' AND convalidated;
SQL
my ($sqlstate) = error_of($node, 'DELETE FROM cat WHERE c = 3');
is($sqlstate, '23503', 'and hold, out');
($sqlstate) = error_of($node, 'DELETE FROM t WHERE k = 5');
is($sqlstate, '23503', 'and in');
$writer->quit;

# Keys to a partitioned table, whose partitions each have a row of it; keys with a value of several fields, one of them
# NULL.
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE region (r int PRIMARY KEY) PARTITION BY LIST (r);
    CREATE TABLE region_1 PARTITION OF region FOR VALUES IN (1);
    CREATE TABLE region_2 PARTITION OF region FOR VALUES IN (2);
    INSERT INTO region VALUES (1), (2);
    CREATE TYPE pair AS (a int, b int);
    CREATE TABLE placed (k int, p pair, r int REFERENCES region, UNIQUE (k, p)) PARTITION BY RANGE (k);
    CREATE TABLE placed_1 PARTITION OF placed FOR VALUES FROM (0) TO (10);
    ALTER TABLE placed_1 ADD CONSTRAINT own FOREIGN KEY (r) REFERENCES region;
    INSERT INTO placed SELECT k, ROW(k, NULL::int)::pair, 1 + k % 2 FROM generate_series(0, 9) AS k;
    CREATE TABLE placed_child (k int, p pair, FOREIGN KEY (k, p) REFERENCES placed (k, p));
    INSERT INTO placed_child SELECT k, p FROM placed;
SQL
my $keys = $node->safe_psql('postgres', q{SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'placed_1'::regclass ORDER BY 1, 2, 3});
$job = start_job($node, q{'placed', 'SELECT k, p, 3 - r AS r FROM placed', swap => 'storage', delay => '0', keep_old => false});
is(wait_job($node, $job), 'done', 'a key to a partitioned table');
is($node->safe_psql('postgres', q{SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'placed_1'::regclass ORDER BY 1, 2, 3}), $keys,
    'a key to a partitioned table: the keys are the same');
is($node->safe_psql('postgres', 'SELECT count(*) FROM placed WHERE r = 2 - k % 2'), '10', 'a key to a partitioned table: the rows are corrected');
$job = start_job($node, q{'placed', 'SELECT k, ROW(k, 1)::pair AS p, r FROM placed', swap => 'storage', delay => '0', max_attempts => 1});
is(wait_job($node, $job), 'failed', 'a key of several fields, one of them NULL, is missed');
$node->safe_psql('postgres', "SELECT backfill_cancel($job)");
wait_job($node, $job);
check_clean($node, 'more keys');

#
# Without WAL for new files, the files themselves must be on disk with the commit
#
$node->append_conf('postgresql.conf', "wal_level = minimal\nmax_wal_senders = 0\nautovacuum = off\n");
$node->restart;
for my $method ('storage', 'attach') {
    my $table = $method eq 'storage' ? 't' : 'plain';
    $node->safe_psql('postgres', 'CREATE TABLE plain (LIKE t INCLUDING ALL) PARTITION BY RANGE (k);'
            . 'CREATE TABLE plain_1 PARTITION OF plain FOR VALUES FROM (0) TO (1500)') if $table eq 'plain';
    # The second builds and swaps in one transaction.
    for my $on_write ('rebuild', 'block') {
        $job = start_job($node, "'$table', 'corrected', swap => '$method', on_write => '$on_write', delay => '0', keep_old => false");
        is(wait_job($node, $job), 'done', "wal_level = minimal, $method, $on_write: done");
        $node->stop('immediate');
        $node->start;
        is($node->safe_psql('postgres', "SELECT count(*), count(md5(v)) FROM $table WHERE v LIKE 'new %'"), '1500|1500',
            "wal_level = minimal, $method, $on_write: the rows survive a crash");
        is_sound($node, "wal_level = minimal, $on_write") if $method eq 'storage';
    }
}
$node->stop;
done_testing();
