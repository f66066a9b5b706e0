# Citus itself, where it is installed: one call on the coordinator recomputes a distributed table of 12 months on two workers, by a role that
# is no superuser, while sessions read and write through each of the nodes, a shard moves, and a worker is killed and comes back.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $driver = "$FindBin::RealBin/../../contrib/citus/partbackfill_citus.sql";
{
    my $probe = new_node('probe');
    my $there = $probe->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'");
    $probe->stop;
    plan skip_all => 'Citus is not installed for this server' unless $there;
}

my ($coordinator, @workers) = map {
    new_node(
        $_,
        allows_streaming => 'logical',
        settings => [
            q{shared_preload_libraries = 'citus,partbackfill'}, q{listen_addresses = '127.0.0.1'}, 'max_worker_processes = 40',
            'max_prepared_transactions = 50', 'max_connections = 200', 'citus.enable_statistics_collection = off', 'partbackfill.crash_pause = 1'
        ])
} qw(coordinator worker_1 worker_2);
my @nodes = ($coordinator, @workers);

sub sql { return $coordinator->safe_psql('postgres', $_[0], extra_params => [ '-U', 'app' ]); }
sub admin { return $coordinator->safe_psql('postgres', $_[0]); }

$_->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app; CREATE EXTENSION citus') for @nodes;
admin(sprintf q{SELECT citus_set_coordinator_host('127.0.0.1', %d)}, $coordinator->port);
admin(sprintf q{SELECT citus_add_node('127.0.0.1', %d)}, $_->port) for @workers;
$coordinator->command_ok([ 'psql', '-XqAt', '-d', $coordinator->connstr('postgres'), '-v', 'ON_ERROR_STOP=1', '-f', $driver ], 'the driver is installed');

sql(<<'SQL');
    SET citus.shard_count = 4;
    CREATE TABLE events (tenant bigint, at timestamptz, id bigint, amount numeric NOT NULL, PRIMARY KEY (tenant, at, id)) PARTITION BY RANGE (at);
    CREATE TABLE raw (LIKE events INCLUDING ALL) PARTITION BY RANGE (at);
    SELECT format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES FROM (%3$L) TO (%4$L)', t, to_char(m, 'MM'), m, m + interval '1 month')
    FROM unnest('{events,raw}'::text[]) AS t, generate_series('2024-01-01'::timestamptz, '2024-12-01', '1 month') AS m
    \gexec
    SELECT create_distributed_table('events', 'tenant');
    SELECT create_distributed_table('raw', 'tenant', colocate_with => 'events');
    INSERT INTO raw SELECT t, '2024-01-01'::timestamptz + id % 366 * interval '1 day', id, 1 FROM generate_series(1, 20) AS t, generate_series(1, 366) AS id;
    INSERT INTO events SELECT tenant, at, id, 1 FROM raw;
SQL

# Through any node: rows of the beginning are of one kind in each month of a tenant, all of them, and stay so within a REPEATABLE READ transaction.
my $read = "$PostgreSQL::Test::Utils::tmp_check/read.pgbench";
append_to_file($read, <<'SQL');
\set tenant random(1, 20)
SELECT count(*) AS rows, count(DISTINCT (to_char(at, 'MM'), amount)) AS kinds FROM events WHERE tenant = :tenant AND id <= 366 \gset
SELECT sum(n) AS all_rows, sum(kinds - 1) AS mixed FROM (SELECT count(*) AS n, count(DISTINCT amount) AS kinds FROM events WHERE id <= 366 GROUP BY tenant, to_char(at, 'MM')) AS g \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT sum(amount) AS first_sum FROM events WHERE tenant = :tenant AND id <= 366 \gset
\sleep 5 ms
SELECT sum(amount) AS second_sum FROM events WHERE tenant = :tenant AND id <= 366 \gset
COMMIT;
\if :rows != 366 or :kinds != 12 or :all_rows != 7320 or :mixed != 0 or :first_sum != :second_sum
SELECT 1 / (:mixed - :mixed) AS anomaly;
\endif
SQL
my $write = "$PostgreSQL::Test::Utils::tmp_check/write.pgbench";
append_to_file($write, <<'SQL');
\set tenant random(1, 20)
\set id random(1000000, 1000000000000)
\set day random(0, 365)
\set v random(1, 100000)
BEGIN;
INSERT INTO raw VALUES (:tenant, '2024-01-01'::timestamptz + :day * interval '1 day', :id, :v);
INSERT INTO events VALUES (:tenant, '2024-01-01'::timestamptz + :day * interval '1 day', :id, :v::numeric * :factor::numeric);
COMMIT;
BEGIN;
UPDATE raw SET amount = amount + 1 WHERE tenant = :tenant AND id = :id;
UPDATE events SET amount = (:v + 1)::numeric * :factor::numeric WHERE tenant = :tenant AND id = :id;
COMMIT;
\if :v < 25000
BEGIN;
DELETE FROM raw WHERE tenant = :tenant AND id = :id;
DELETE FROM events WHERE tenant = :tenant AND id = :id;
COMMIT;
\endif
SQL

my $factor = 1;

sub start_run {
    my ($label, $options) = @_;
    $factor *= 10;
    my @clients = map { start_clients($_, 2, '-U', 'app', '-M', 'prepared', '-D', "factor=$factor", '--max-tries', '100', '-f', "$read\@1", '-f', "$write\@2") } @nodes;
    sql(qq{SELECT partbackfill_nodes.start('events', 'SELECT tenant, at, id, amount * $factor AS amount FROM {source}', 'raw', '$label', '$options')});
    return @clients;
}

sub end_run {
    my ($label, @clients) = @_;
    my $before = sql('SELECT count(*) FROM raw');
    await($coordinator, "SELECT count(*) <> $before FROM raw");
    is(stop_clients($_) =~ s/^pgbench.*(?:server version|vacuum).*\n//gmr, '', "$label: readers and writers have no error") for @clients;
    is(sql("SELECT count(*) FROM events AS e FULL JOIN raw AS r ON (e.tenant, e.at, e.id) = (r.tenant, r.at, r.id) WHERE e.amount IS DISTINCT FROM r.amount * $factor"),
        0, "$label: no write is lost, and all rows are new");
    is(sql(qq{SELECT partbackfill_nodes.purge('$label')}), 48, "$label: purged");
    ok(sql(qq{SELECT partbackfill_nodes.forget('$label')}) >= 4, "$label: forgotten");
    is($_->safe_psql('postgres', q{SELECT count(*) FROM pg_namespace WHERE nspname ~ '^backfill_\d'}), 0, "$label: nothing is left on " . $_->name) for @nodes;
    return;
}

sub await_run {
    my ($label, $condition) = @_;
    for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default) {
        return if sql("SELECT $condition FROM partbackfill_nodes.status WHERE label = '$label'") eq 't';
        select undef, undef, undef, 0.05;
    }
    die "waited in vain for $condition of run $label";
}

for my $on_write (qw(catch_up)) {
    my @clients = start_run("plain $on_write", qq({"on_write": "$on_write", "delay": "0.1 s"}));
    is(sql("SELECT partbackfill_nodes.wait('plain $on_write', '170 s')"), 'done', "$on_write: done");
    is(sql('SELECT state, jobs, done, partitions, partitions_done FROM partbackfill_nodes.status'), 'done|4|4|48|48', "$on_write: 48 of 48");
    end_run("plain $on_write", @clients);
}

for my $mode (qw(force_logical block_writes)) {
    my @clients = start_run($mode, '{"on_write": "catch_up", "delay": "0.3 s"}');
    await_run($mode, 'partitions_done >= 8');
    my ($shard, $from) = split /\|/, admin(q{SELECT shardid, nodeport FROM citus_shards WHERE table_name = 'events'::regclass ORDER BY shardid LIMIT 1});
    my ($to) = grep { $_ != $from } map { $_->port } @workers;
    admin("SELECT citus_move_shard_placement($shard, '127.0.0.1', $from, '127.0.0.1', $to, '$mode')");
    is(sql("SELECT partbackfill_nodes.wait('$mode', '170 s')"), 'failed', "$mode: what has moved is not done");
    is(sql(q{SELECT string_agg(state, ' ' ORDER BY state) FROM partbackfill_nodes.progress}), 'done done done moved', "$mode: and said to be so");
    is(sql("SELECT partbackfill_nodes.retry('$mode')"), 1, "$mode: it is started where it is now");
    is(sql("SELECT partbackfill_nodes.wait('$mode', '170 s')"), 'done', "$mode: and done");
    end_run($mode, @clients);
}

{
    my $label = 'killed';
    $factor *= 10;
    sql(qq{SELECT partbackfill_nodes.start('events', 'SELECT tenant, at, id, amount * $factor AS amount FROM {source}', 'raw', '$label', '{"delay": "0.3 s"}')});
    await_run($label, 'partitions_done >= 8');
    $workers[1]->stop('immediate');
    await_run($label, q{unreachable = 1 AND state = 'running'});
    $workers[1]->start;
    is(sql("SELECT partbackfill_nodes.wait('$label', '170 s')"), 'done', "$label: goes on when the worker is back");
    is(sql('SELECT partitions_done FROM partbackfill_nodes.status'), 48, "$label: 48 of 48");
    end_run($label, start_clients($coordinator, 1, '-U', 'app', '-D', "factor=$factor", '-f', $write));
}

$_->stop for reverse @nodes;
done_testing();
