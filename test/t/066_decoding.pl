# What logical decoding does with a load, as docs/logical-replication.md says: it queues the rows and sends none, and
# writes none of them to disk where there is memory for them or the consumer streams.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('decoding', allows_streaming => 'logical', settings => ["logical_decoding_work_mem = '64kB'"]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);
    INSERT INTO t SELECT k, repeat('v', 100) FROM generate_series(1, 9999) AS k;
SQL

# Runs a job and decodes what it wrote: what was sent of rows, and the bytes that went to disk.
sub decode {
    my ($slot, $method, $options, $before) = @_;
    $node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('$slot', 'test_decoding')");
    my $job = start_job($node, "'t', 't', delay => '0', swap => '$method', keep_old => false");
    is(wait_job($node, $job), 'done', "$slot: done");
    $node->safe_psql('postgres', "INSERT INTO t VALUES (0, '$slot')");
    my $sent = $node->safe_psql('postgres', <<"SQL");
        $before;
        SELECT data FROM pg_logical_slot_get_changes('$slot', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1' $options)
        WHERE data ~ '^(table|streaming)'
SQL
    $node->safe_psql('postgres', 'DELETE FROM t WHERE k = 0');
    is($sent, "table public.t_1: INSERT: k[integer]:0 v[text]:'$slot'", "$slot: no row of the load is sent, the next write is");
    return split /\|/, $node->safe_psql('postgres',
        "SELECT total_bytes > 1000000, spill_bytes, stream_bytes > 1000000 FROM pg_stat_replication_slots WHERE slot_name = '$slot'");
}

for my $method ('attach', 'storage') {
    my ($queued, $spilled) = decode("small_$method", $method, '', '');
    is($queued, 't', "$method: the rows are queued");
    cmp_ok($spilled, '>', 1000000, "$method: and spilled");
    ($queued, $spilled) = decode("large_$method", $method, '', "SET logical_decoding_work_mem = '64MB'");
    is($spilled, '0', "$method: not where there is memory for them");
    my $streamed;
    ($queued, $spilled, $streamed) = decode("streaming_$method", $method, ", 'stream-changes', '1'", '');
    is("$spilled $streamed", '0 t', "$method: nor for a consumer that streams");
}

# Of a partition that catches up, what its writers do is sent once, as they did it, and nothing of the log and the shadow.
for my $method ('attach', 'storage') {
    my $slot = "catch_up_$method";
    $node->safe_psql('postgres', "CREATE PUBLICATION everything FOR ALL TABLES; SELECT pg_create_logical_replication_slot('$slot', 'test_decoding')");
    $node->safe_psql('postgres', "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = 'built stop'; SELECT pg_reload_conf()");
    my $job = start_job($node, "'t', 't', delay => '0', swap => '$method', keep_old => false, on_write => 'catch_up'");
    await_worker($node, $job, "query LIKE '%injection point built'");
    $node->safe_psql('postgres', "UPDATE t SET v = 'updated' WHERE k = 1; DELETE FROM t WHERE k = 2; INSERT INTO t VALUES (2, 'again');"
            . " UPDATE t SET v = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n) WHERE k = 3");
    $node->safe_psql('postgres', "ALTER SYSTEM RESET partbackfill.injection_point; SELECT pg_reload_conf()");
    is(wait_job($node, $job), 'done', "$slot: done");
    $node->safe_psql('postgres', "UPDATE t SET v = 'old ' || k WHERE k BETWEEN 1 AND 3");
    is($node->safe_psql('postgres', <<"SQL"), <<'SQL' =~ s/\n\z//r, "$slot: the writes are sent, and no other");
        SELECT left(data, 66) FROM pg_logical_slot_get_changes('$slot', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1')
        WHERE data ~ '^table'
SQL
table public.t_1: UPDATE: k[integer]:1 v[text]:'updated'
table public.t_1: DELETE: k[integer]:2
table public.t_1: INSERT: k[integer]:2 v[text]:'again'
table public.t_1: UPDATE: k[integer]:3 v[text]:'c4ca4238a0b923820d
table public.t_1: UPDATE: k[integer]:1 v[text]:'old 1'
table public.t_1: UPDATE: k[integer]:2 v[text]:'old 2'
table public.t_1: UPDATE: k[integer]:3 v[text]:'old 3'
SQL
    $node->safe_psql('postgres', "DROP PUBLICATION everything; SELECT pg_drop_replication_slot('$slot')");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_class WHERE relrewrite <> 0 AND relname !~ \'^backfill_\''), '0', "$slot: no mark is left");
    check_clean($node, $slot);
}

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', "SELECT pg_create_logical_replication_slot('other', 'test_decoding')");
is(wait_job($node, start_job($node, "'t', 't', delay => '0', keep_old => false")), 'done', 'a slot of another database');
$node->safe_psql('other', "SELECT count(*) FROM pg_logical_slot_get_changes('other', NULL, NULL)");
is($node->safe_psql('postgres', "SELECT total_bytes < 10000 FROM pg_stat_replication_slots WHERE slot_name = 'other'"), 't',
    'a slot of another database queues nothing');
$node->stop;
done_testing();
