# swap => 'storage': what a partition has of its own, or others have on it, is still there and works: statistics, names,
# storage parameters, an identity column, a table without WAL; and a partition that its job's owner has lost is not written.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('storage_of_its_own');
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');

#
# What belongs to others on the partition stays theirs
#
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE gatherer LOGIN;
    CREATE ROLE statistician;
    CREATE TABLE gathered (k int, n int) PARTITION BY RANGE (k);
    CREATE TABLE gathered_1 PARTITION OF gathered FOR VALUES FROM (0) TO (10);
    CREATE STATISTICS theirs ON k, n FROM gathered_1;
    COMMENT ON STATISTICS theirs IS 'not to be touched';
    ALTER STATISTICS theirs OWNER TO statistician;
    ALTER TABLE gathered OWNER TO gatherer;
    ALTER TABLE gathered_1 OWNER TO gatherer;
SQL
my $job = start_job($node, q{'gathered', 'SELECT k, k AS n FROM generate_series(0, 9) AS k', swap => 'storage', keep_old => false},
    'SET SESSION AUTHORIZATION gatherer');
is(wait_job($node, $job), 'done', 'a statistics object of another role');
is($node->safe_psql('postgres', <<'SQL'), "statistician|not to be touched|t", 'it is still theirs, and knows the new rows');
    SELECT stxowner::regrole, obj_description(s.oid, 'pg_statistic_ext'), stxdndistinct IS NOT NULL
    FROM pg_statistic_ext AS s JOIN pg_statistic_ext_data ON stxoid = s.oid WHERE stxname = 'theirs'
SQL

# Each partition has the name that the array of another's rows would have, beside which its old rows are kept.
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE named (k int) PARTITION BY RANGE (k);
    CREATE TABLE __named PARTITION OF named FOR VALUES FROM (0) TO (10);
    CREATE TABLE _named PARTITION OF named FOR VALUES FROM (10) TO (20);
    CREATE TABLE named_1 PARTITION OF named FOR VALUES FROM (20) TO (30);
    CREATE TABLE _named_1 PARTITION OF named FOR VALUES FROM (30) TO (40);
SQL
$job = start_job($node, q{'named', 'SELECT k FROM generate_series(0, 39) AS k', swap => 'storage', newest_first => true, delay => '0'});
is(wait_job($node, $job), 'done', 'names of array types') or diag($node->safe_psql('postgres', "SELECT partition, error FROM backfill_progress WHERE job = $job"));
is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '4', 'names of array types: purged');
is($node->safe_psql('postgres', q{SELECT DISTINCT reltuples FROM pg_class WHERE relname ~ '^_*named(_1)?$' AND relkind = 'r'}), '10',
    'names of array types: the planner knows how many rows there are now');

#
# What is said of how rows are stored holds for the new ones
#
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE sparse (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE sparse_1 PARTITION OF sparse FOR VALUES FROM (0) TO (1000) WITH (fillfactor = 10, toast_tuple_target = 128);
    ALTER TABLE sparse_1 ALTER v SET STORAGE EXTERNAL;
    INSERT INTO sparse SELECT k, repeat('v', 400) FROM generate_series(0, 999) AS k;
    CREATE TABLE sizes AS SELECT pg_relation_size(oid) AS heap, pg_relation_size(reltoastrelid) AS toast FROM pg_class WHERE relname = 'sparse_1';
SQL
$job = start_job($node, q{'sparse', 'sparse', swap => 'storage', keep_old => false});
is(wait_job($node, $job), 'done', 'storage parameters');
is($node->safe_psql('postgres', <<'SQL'), 't|t', 'storage parameters: the new rows take as much room, and are as long when they are moved out');
    SELECT pg_relation_size(oid) = heap, pg_relation_size(reltoastrelid) = toast FROM pg_class, sizes WHERE relname = 'sparse_1'
SQL

#
# An identity column of its own, which partitions had up to 16: the sequence stays with the partition
#
if ($node->pg_version->major < 17) {
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE counted (k int, i int NOT NULL) PARTITION BY RANGE (k);
        CREATE TABLE counted_1 PARTITION OF counted FOR VALUES FROM (0) TO (1000);
        ALTER TABLE counted_1 ALTER i ADD GENERATED ALWAYS AS IDENTITY;
        INSERT INTO counted_1 (k) VALUES (1), (2);
SQL
    $job = start_job($node, q{'counted', 'counted', swap => 'storage'});
    is(wait_job($node, $job), 'done', 'an identity column of its own');
    is($node->safe_psql('postgres', 'INSERT INTO counted_1 (k) VALUES (3) RETURNING i'), '3', 'an identity column of its own: it counts on');
    is($node->safe_psql('postgres', "SELECT attidentity <> '' FROM pg_attribute WHERE attrelid = 'backfill_${job}_old.counted_1'::regclass AND attname = 'i'"),
        'f', 'an identity column of its own: the old rows need no sequence');
    is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '1', 'an identity column of its own: purged');
}

#
# An unlogged partition loses its rows in a crash, as any such table, and is sound
#
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE volatile (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE UNLOGGED TABLE volatile_1 PARTITION OF volatile FOR VALUES FROM (0) TO (500);
    INSERT INTO volatile SELECT k, 'old' FROM generate_series(0, 499) AS k;
SQL
$job = start_job($node, q{'volatile', $$SELECT k, repeat('new', 1000) || k AS v FROM volatile$$, swap => 'storage', delay => '0', keep_old => false});
is(wait_job($node, $job), 'done', 'unlogged: done');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', <<'SQL'), "0\n500\n", 'unlogged: empty after a crash, and good for new rows');
    SELECT count(*) FROM volatile;
    INSERT INTO volatile SELECT k, (SELECT string_agg(md5(k::text || g), '') FROM generate_series(1, 200) AS g) FROM generate_series(0, 499) AS k;
    SELECT count(*) FROM volatile;
    SELECT * FROM verify_heapam('volatile_1', check_toast => true);
    SELECT bt_index_check('volatile_1_pkey', true);
SQL

#
# A role that lost the partition after the start
#
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE keeper LOGIN;
    CREATE ROLE other;
    CREATE TABLE mine (k int) PARTITION BY RANGE (k);
    CREATE TABLE mine_1 PARTITION OF mine FOR VALUES FROM (0) TO (10);
    GRANT other TO keeper;
    ALTER TABLE mine OWNER TO other;
    ALTER TABLE mine_1 OWNER TO other;
SQL
my $holder = session($node);
$holder->query_safe('BEGIN; SELECT count(*) FROM mine_1');
$job = start_job($node, q{'mine', 'SELECT 1 AS k', swap => 'storage', delay => '0', max_attempts => 1}, 'SET ROLE keeper');
await_partition($node, $job, 1, 'swap_attempts >= 1');
$node->safe_psql('postgres', 'REVOKE other FROM keeper');
$holder->query_safe('ROLLBACK');
is(wait_job($node, $job), 'failed', 'a role that lost the partition does not write it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM mine_1'), '0', 'it is untouched');
$node->safe_psql('postgres', "SELECT backfill_cancel($job)");
wait_job($node, $job);
$holder->quit;

$node->stop;
done_testing();
