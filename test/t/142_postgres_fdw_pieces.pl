# contrib/postgres_fdw: what the pieces of a table are, and which rows get into each of them; what is no piece; how commands get to the nodes.
use strict;
use warnings;

use Backfill;
use ForeignNodes;
use Test::More;

my ($coordinator, @nodes) = foreign_nodes();
for my $i (0, 1) {
    my ($from, $to) = (100 * $i, 100 * $i + 100);
    on_node($i, <<"SQL");
        SET ROLE app;
        CREATE TABLE everything AS SELECT id, 'new' AS v FROM generate_series(0, 199) AS id;
        CREATE TABLE history (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE history_1 PARTITION OF history DEFAULT;
        INSERT INTO history SELECT id, 'old' FROM generate_series($from, $to - 1) AS id;
        CREATE TABLE span (id int, v text) PARTITION BY RANGE (id);
        CREATE TABLE span_1 PARTITION OF span FOR VALUES FROM ($from) TO ($to);
        INSERT INTO span SELECT * FROM history;
SQL
}
$coordinator->safe_psql('postgres', <<'SQL');
    CREATE FOREIGN DATA WRAPPER elsewhere;
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere;
    GRANT USAGE ON FOREIGN SERVER elsewhere TO app;
SQL
sql(<<'SQL');
    CREATE TABLE history (id int, v text) PARTITION BY RANGE (id);
    CREATE FOREIGN TABLE history_1 PARTITION OF history FOR VALUES FROM (0) TO (100) SERVER node_1 OPTIONS (schema_name 'public', table_name 'history');
    CREATE FOREIGN TABLE history_2 PARTITION OF history FOR VALUES FROM (100) TO (200) SERVER node_2 OPTIONS (table_name 'history');
    CREATE TABLE span (id int, v text) PARTITION BY RANGE (id);
    CREATE FOREIGN TABLE span_1 PARTITION OF span FOR VALUES FROM (0) TO (100) SERVER node_1 OPTIONS (table_name 'span');
    CREATE FOREIGN TABLE span_2 PARTITION OF span FOR VALUES FROM (100) TO (200) SERVER node_2 OPTIONS (table_name 'span');
SQL

#
# What is refused
#
sql('CREATE TABLE halves (LIKE history) PARTITION BY RANGE (id); CREATE FOREIGN TABLE halves_1 PARTITION OF halves FOR VALUES FROM (0) TO (50) SERVER node_1');
is_refused(q{'history', 'SELECT * FROM {source}', 'halves'}, qr/table public\.halves is not divided like public\.history/, 'a source with other bounds');
sql('CREATE TABLE local_only (k int) PARTITION BY RANGE (k); CREATE TABLE local_only_1 PARTITION OF local_only DEFAULT');
is_refused(q{'local_only', 'TABLE local_only'}, qr/no partition of public\.local_only is on another node/, 'a local table');
sql('CREATE FOREIGN TABLE history_3 PARTITION OF history FOR VALUES FROM (200) TO (300) SERVER elsewhere');
is_refused(q{'history', 'everything'}, qr/foreign table public\.history_3 is of foreign-data wrapper "elsewhere"/, 'another foreign-data wrapper');
sql('DROP FOREIGN TABLE history_3');

#
# Pieces: partitions at any depth, bounds of any kind, columns with other names
#
sql(<<'SQL');
    SET client_min_messages = error; -- the server cannot look into the DEFAULT one
    CREATE TABLE deep (region text, at date, v int) PARTITION BY LIST (region);
    CREATE TABLE deep_north PARTITION OF deep FOR VALUES IN ('n', 'O''x') PARTITION BY RANGE (at);
    CREATE FOREIGN TABLE deep_north_1 PARTITION OF deep_north FOR VALUES FROM ('2024-01-02') TO ('2024-03-04') SERVER node_1 OPTIONS (schema_name 'Far', table_name 'a"b');
    CREATE FOREIGN TABLE deep_rest PARTITION OF deep DEFAULT SERVER node_2;
    CREATE TABLE deep_east PARTITION OF deep FOR VALUES IN ('e') PARTITION BY HASH (v);
    CREATE FOREIGN TABLE deep_east_0 PARTITION OF deep_east FOR VALUES WITH (MODULUS 1, REMAINDER 0) SERVER node_2;
    CREATE FOREIGN TABLE deep_west PARTITION OF deep FOR VALUES IN ('w') SERVER node_2;
    ALTER FOREIGN TABLE deep_west ALTER v OPTIONS (column_name 'w');
SQL
is(sql(q{SET datestyle = 'SQL, DMY'; SELECT node, target, source_table, shard, filter FROM partbackfill_nodes.pieces('deep', 'deep') ORDER BY target}) =~ s/::text|[()]//gr,
    join("\n", q{node_1|"Far"."a""b"|"Far"."a""b"||region IS NOT NULL AND region = ANY ARRAY['n', 'O''x'] AND at IS NOT NULL AND at >= '2024-01-02'::date AND at < '2024-03-04'::date},
        'node_2|public.deep_east_0|public.deep_east_0||',
        q{node_2|public.deep_rest|public.deep_rest||NOT region IS NOT NULL AND region = ANY ARRAY['O''x', 'e', 'n', 'w']},
        'node_2|public.deep_west|public.deep_west||'),
    'pieces: where they are, and which rows they may have');

#
# A call that is canceled leaves no connection
#
my $caller = session($coordinator);
$caller->query('SET ROLE app');
my $canceled = $caller->query(q{SET statement_timeout = '300ms'; SELECT result FROM partbackfill_nodes.run_on('{node_1,node_2}', '{"SELECT pg_sleep(600)::text","SELECT 1::text"}');});
$caller->query('SET statement_timeout = 0');
is($caller->query('SELECT coalesce(dblink_get_connections()::text, $$none$$)'), 'none', 'canceled: no connection stays');
is($caller->query(q{SELECT string_agg(concat_ws(' ', ordinal, success, split_part(result, E'\n', 1)), ', ' ORDER BY ordinal)
    FROM partbackfill_nodes.run_on('{node_1,nowhere,node_2,node_1}', '{"SELECT 1::text","SELECT 2::text","SELECT 1 / 0","SELECT 4::text"}')}),
    '1 t 1, 2 f server "nowhere" does not exist, 3 f division by zero, 4 t 4', 'canceled: the next call is answered, by each node for itself');
$caller->quit;
on_node(0, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)::text'});

#
# RANGE partitions: a source that is not divided gives each node only its own rows
#
sql('CREATE TABLE history_local PARTITION OF history DEFAULT');
my (undef, $complaint) = attempt(q{SELECT partbackfill_nodes.start('history', 'everything', label => 'sixth', options => '{"delay": 0, "keep_old": false}')});
like($complaint, qr/\AWARNING:  partition public\.history_local is on no other node and is left out\nHINT.*\z/, 'RANGE: a local partition is left out, with a WARNING');
is(sql(q{SELECT partbackfill_nodes.wait('sixth', '180 s')}), 'done', 'RANGE: done');
is(sql('SELECT tableoid::regclass, min(id), max(id), count(*), min(v) FROM history GROUP BY 1 ORDER BY 1'),
    "history_1|0|99|100|new\nhistory_2|100|199|100|new", 'RANGE: each row is where it belongs');
sql(q{SELECT partbackfill_nodes.forget('sixth')});
like(sql(q{SELECT partbackfill_nodes.start('history', 'SELECT id, ''own'' AS v FROM {source} -- of this node;', options => '{"delay": 0, "keep_old": false}')}),
    qr/\Apublic\.history \d{4}-/, 'RANGE: the table itself as source, under a label that is made');
is(sql('SELECT partbackfill_nodes.wait(label) FROM partbackfill_nodes.run'), 'done', 'RANGE: the table itself: done');
is(sql('SELECT min(v), max(v), count(*) FROM history'), 'own|own|200', 'RANGE: the table itself: all rows are new');
sql('SELECT partbackfill_nodes.forget(label) FROM partbackfill_nodes.run');
like((attempt(q{SELECT partbackfill_nodes.start('span', 'everything', options => '{"range_start": "500"}')}))[1],
    qr/no job could be started: node "node_1": no partition of .* is in the range/, 'RANGE: no node has a partition in the range');
my ($span, $no_complaint) = attempt(q{SELECT partbackfill_nodes.start('span', 'everything', label => 'seventh', options => '{"range_start": "150", "delay": 0, "keep_old": false}')});
is("$span $no_complaint", 'seventh ', 'RANGE: a node without a partition in the range has nothing to do');
is(sql(q{SELECT partbackfill_nodes.wait('seventh', '180 s')}), 'done', 'RANGE: the other one does its part');
is(sql(q{SELECT state, jobs, done, percent, error FROM partbackfill_nodes.status}), 'done|2|2|100.0|', 'RANGE: the view has no error');
is(sql(q{SELECT string_agg(state, ' ' ORDER BY target, node) FROM partbackfill_nodes.progress}), 'skipped done', 'RANGE: but says so');
is(sql(q{SELECT tableoid::regclass, min(v), max(v) FROM span GROUP BY 1 ORDER BY 1}), "span_1|old|old\nspan_2|new|new", 'RANGE: and only its rows are new');
sql(q{SELECT partbackfill_nodes.forget('seventh')});
is(sql('SELECT count(*) FROM partbackfill_nodes.run'), 0, 'no run is left');
await_clean('at the end');

$_->stop for @nodes, $coordinator;
done_testing();
