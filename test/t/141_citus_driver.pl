# contrib/citus without Citus: tables of its names say which shard is on which server, and a function of its name runs commands there. Two
# servers have the shards; one of these is moved while a run is under way.
use strict;
use warnings;

use Backfill;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $driver = "$FindBin::RealBin/../../contrib/citus/partbackfill_citus.sql";
plan skip_all => 'the driver is not beside the tests' unless -r $driver;

my $coordinator = new_node('coordinator');
plan skip_all => 'dblink is not installed' if !$coordinator->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'");
my @nodes = map { new_node($_, settings => [ "shared_preload_libraries = 'partbackfill'", 'partbackfill.crash_pause = 1' ]) } qw(node_1 node_2);

sub on_node { return $nodes[ $_[0] ]->safe_psql('postgres', $_[1], extra_params => [ '-U', 'app' ]); }
sub sql { return $coordinator->safe_psql('postgres', $_[0], extra_params => [ '-U', $_[1] // 'app' ]); }

sub complaint_of {
    my ($statement) = @_;
    my (undef, undef, $complaint) = $coordinator->psql('postgres', $statement, extra_params => [ '-U', 'app' ]);
    return $complaint;
}

# The shard of both tables, with three months each, of which a partition has ten rows.
sub make_shard {
    my ($node, $shard) = @_;
    on_node($node, <<"SQL");
        CREATE TABLE events_$shard (id bigint, at timestamptz, amount numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE raw_events_1$shard (LIKE events_$shard) PARTITION BY RANGE (at);
        SELECT format('CREATE TABLE %1\$s_%2\$s_%3\$s PARTITION OF %1\$s_%3\$s FOR VALUES FROM (%4\$L) TO (%5\$L)', t, to_char(m, 'MM'), s, m, m + interval '1 month')
        FROM (VALUES ('events', '$shard'), ('raw_events', '1$shard')) AS v (t, s), generate_series('2024-01-01'::timestamptz, '2024-03-01', '1 month') AS m
        \\gexec
SQL
    return;
}

for my $i (0, 1) {
    $nodes[$i]->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app; CREATE EXTENSION dblink');
    for my $shard (101 + 2 * $i, 102 + 2 * $i) {
        make_shard($i, $shard);
        on_node($i, <<"SQL");
            INSERT INTO events_$shard SELECT 1000 * $shard + n, '2024-01-01'::timestamptz + n * interval '3 days', 0 FROM generate_series(0, 29) AS n;
            INSERT INTO raw_events_1$shard SELECT id, at, id FROM events_$shard;
SQL
    }
}

$coordinator->safe_psql('postgres', <<'SQL');
    CREATE ROLE app LOGIN;
    GRANT CREATE ON SCHEMA public TO app;
    CREATE EXTENSION dblink;
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char", colocationid integer);
    CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint, shardminvalue text, shardmaxvalue text);
    CREATE TABLE pg_catalog.pg_dist_placement (placementid bigint, shardid bigint, shardstate integer, groupid integer);
    CREATE TABLE pg_catalog.pg_dist_node (groupid integer, nodename text, nodeport integer, noderole text);
    GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_node TO PUBLIC;
    CREATE FUNCTION pg_catalog.shard_name(object_name regclass, shard_id bigint, skip_qualify_public boolean DEFAULT true) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT quote_ident(relname || '_' || shard_id) FROM pg_class WHERE oid = object_name
    $$;
    CREATE FUNCTION pg_catalog.master_run_on_worker(worker_name text[], port integer[], command text[], parallel boolean,
                                                    OUT node_name text, OUT node_port integer, OUT success boolean, OUT result text)
    RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        FOR i IN 1 .. cardinality(worker_name) LOOP
            node_name := worker_name[i];
            node_port := port[i];
            BEGIN
                SELECT r INTO result
                FROM public.dblink(format('host=%s port=%s user=%s dbname=postgres', node_name, node_port, session_user), command[i]) AS a (r text);
                success := true;
            EXCEPTION WHEN OTHERS THEN
                success := false;
                result := CASE WHEN SQLERRM LIKE 'could not establish%' THEN format('failed to connect to %s:%s', node_name, node_port)
                               ELSE E'ERROR:  ' || SQLERRM END;
            END;
            RETURN NEXT;
        END LOOP;
    END
    $$;
SQL
for (1, 2) {
    my ($out, $error) = run_command([ 'psql', '-X', '-q', '-f', $driver, $coordinator->connstr('postgres') ]);
    is("$out$error", '', 'the driver is installed, and once more');
}
my $places = join ', ', map { "($_, '" . $nodes[ $_ - 1 ]->host . "', " . $nodes[ $_ - 1 ]->port . ", 'primary')" } 1, 2;
my @names = map { $_->host . ':' . $_->port } @nodes;
sql('CREATE TABLE events (id bigint, at timestamptz, amount numeric) PARTITION BY RANGE (at); CREATE TABLE raw_events (LIKE events) PARTITION BY RANGE (at);'
        . 'CREATE TABLE apart (LIKE events); CREATE TABLE fewer (LIKE events); CREATE TABLE reference (LIKE events); CREATE TABLE undistributed (LIKE events); CREATE TABLE appended (LIKE events)');
$coordinator->safe_psql('postgres', <<"SQL");
    SET allow_system_table_mods = on;
    INSERT INTO pg_dist_node VALUES $places;
    INSERT INTO pg_dist_partition VALUES ('events', 'h', 1), ('raw_events', 'h', 1), ('apart', 'h', 2), ('fewer', 'h', 1), ('reference', 'n', 3), ('appended', 'a', 4);
    INSERT INTO pg_dist_shard SELECT 'events', 100 + i, i::text, (i + 1)::text FROM generate_series(1, 4) AS i;
    INSERT INTO pg_dist_shard SELECT 'raw_events', 1100 + i, i::text, (i + 1)::text FROM generate_series(1, 4) AS i;
    INSERT INTO pg_dist_shard VALUES ('reference', 900, NULL, NULL);
    INSERT INTO pg_dist_placement SELECT shardid, shardid, 1, 1 + (shardid % 10 > 2)::integer FROM pg_dist_shard;
    INSERT INTO pg_dist_placement VALUES (901, 900, 1, 2);
SQL

#
# What is refused
#
for (
    [ 'undistributed', 'TABLE {source}', undef, qr/public\.undistributed is not a distributed table/ ],
    [ 'reference', 'TABLE {source}', undef, qr/table public\.reference has several copies of a shard/ ],
    [ 'appended', 'TABLE {source}', undef, qr/table public\.appended is not distributed by hash/ ],
    [ 'events', 'TABLE {source}', 'apart', qr/tables public\.events and public\.apart are not colocated/ ],
    [ 'events', 'TABLE {source}', 'fewer', qr/tables public\.events and public\.fewer are not colocated/ ],
    [ 'events', 'TABLE {source}', 'undistributed', qr/public\.undistributed is not a distributed table/ ],
    [ 'events', 'SELECT nothing FROM {source}', undef, qr/no job could be started: node "\Q$names[0]\E": column "nothing" does not exist/ ]) {
    my ($target, $source, $other, $reason) = @$_;
    like(complaint_of("SELECT partbackfill_nodes.start('$target', '$source'" . ($other ? ", '$other'" : '') . ')'), $reason, "refused: $target, $source, " . ($other // '-'));
}
is(sql('SELECT count(*) FROM partbackfill_nodes.run'), 0, 'no run is left of those');

#
# All shards
#
sub wrong_rows {
    my ($factor) = @_;
    my $wrong = 0;
    for my $shard (101 .. 104) {
        my $node = sql("SELECT groupid - 1 FROM pg_dist_placement WHERE shardid = $shard");
        $wrong += on_node($node, "SELECT count(*) FROM events_$shard AS e FULL JOIN raw_events_1$shard AS r USING (id, at) WHERE e.amount IS DISTINCT FROM r.amount * $factor");
    }
    return $wrong;
}

is(sql(q{SELECT partbackfill_nodes.start('events', 'raw_events', label => 'all', options => '{"delay": 0}')}), 'all', 'the name of a colocated table: started');
is(sql(q{SELECT partbackfill_nodes.wait('all', '180 s')}), 'done', 'the name of a colocated table: done');
is(sql('SELECT jobs, done, partitions, partitions_done, percent FROM partbackfill_nodes.status'), '4|4|12|12|100.0', 'all partitions of all shards');
is(sql(q{SELECT string_agg(concat_ws(' ', shard, target, state), ', ' ORDER BY shard) FROM partbackfill_nodes.progress}),
    '101 public.events_101 done, 102 public.events_102 done, 103 public.events_103 done, 104 public.events_104 done', 'a row a shard');
is(wrong_rows(1), 0, 'the rows are right');
is(sql(q{SELECT partbackfill_nodes.purge('all')}), 12, 'purged');
is(sql(q{SELECT partbackfill_nodes.forget('all')}), 4, 'forgotten');

#
# A shard moves when a third of it is done
#
my @gates = map { session($_) } @nodes;
close_gate($_, 1) for @gates;
sql(<<'SQL');
    SELECT partbackfill_nodes.start('events', $$SELECT id, at, amount * 2 AS amount FROM {source} WHERE at < '2024-02-01' OR pass_gate(1)$$, 'raw_events',
                                    label => 'moves', options => '{"delay": 0, "range_end": "2024-03-15"}')
SQL
await_at_gate($_, 1) for @nodes;
await($nodes[0], q{SELECT sum(done) = 2 FROM backfill_status WHERE state = 'running'});
await($nodes[1], q{SELECT sum(done) = 2 FROM backfill_status WHERE state = 'running'});
is(sql(q{SELECT partbackfill_nodes.pause('moves')}), 4, 'the run is paused');
is(sql(q{SELECT partbackfill_nodes.wait('moves', '180 s')}), 'paused', 'and rests');
make_shard(1, 101);
$nodes[1]->safe_psql('postgres', <<"SQL");
    INSERT INTO events_101 SELECT * FROM dblink('host=@{[ $nodes[0]->host ]} port=@{[ $nodes[0]->port ]} dbname=postgres', 'TABLE events_101') AS r (id bigint, at timestamptz, amount numeric);
    INSERT INTO raw_events_1101 SELECT * FROM dblink('host=@{[ $nodes[0]->host ]} port=@{[ $nodes[0]->port ]} dbname=postgres', 'TABLE raw_events_1101') AS r (id bigint, at timestamptz, amount numeric);
SQL
$coordinator->safe_psql('postgres', 'SET allow_system_table_mods = on; UPDATE pg_dist_placement SET groupid = 2 WHERE shardid IN (101, 1101)');
is(sql('SELECT state, moved FROM partbackfill_nodes.status'), 'failed|1', 'a shard has moved: the view has it');
is(sql(q{SELECT state, error FROM partbackfill_nodes.progress WHERE shard = 101}), qq{moved|Its shard is on node "$names[1]" now.}, 'a shard has moved: and where to');
my (undef, undef, $complaint) = $coordinator->psql('postgres', q{SELECT partbackfill_nodes.retry('moves')});
like($complaint, qr/WARNING: .*jobs of run "moves" can only be started by role "app"/, 'retry: another role does not run its source');
is(sql(q{SELECT partbackfill_nodes.retry('moves')}), 1, 'retry: one job where the shard is');
open_gate($_, 1) for @gates;
is(sql(q{SELECT partbackfill_nodes.resume('moves')}), 3, 'resume: the others');
is(sql(q{SELECT partbackfill_nodes.wait('moves', '180 s')}), 'done', 'retry: done');
is(sql(q{SELECT string_agg(concat_ws(' ', shard, state, partitions, done, percent), ', ' ORDER BY ordinal) FROM partbackfill_nodes.jobs()}),
    '101 replaced 1 1 100, 102 done 3 3 100.0, 103 done 3 3 100.0, 104 done 3 3 100.0, 101 done 2 2 100.0', 'retry: only what was not done');
is(sql('SELECT state, jobs, done, moved, partitions, partitions_done FROM partbackfill_nodes.status'), 'done|5|5|0|12|12', 'retry: all of it is done');
is(wrong_rows(2), 0, 'retry: the rows are right');
is(on_node(0, 'SELECT state FROM backfill_status ORDER BY job LIMIT 1'), 'canceled', 'retry: the former job is canceled');
is(sql(q{SELECT partbackfill_nodes.retry('moves')}), 0, 'retry: once');
is(sql(q{SELECT partbackfill_nodes.purge('moves')}), 12, 'purge: the old partitions of the former job, too');
for my $node (@nodes) {
    await($node, q{SELECT count(*) = 0 FROM pg_namespace WHERE nspname LIKE 'backfill\_%'});
    check_clean($node, 'purge, ' . $node->name);
}

#
# Nodes that are down, and one that there is not
#
$gates[0]->quit;
$nodes[0]->stop('immediate');
is(sql('SELECT state, unreachable, done FROM partbackfill_nodes.status'), 'failed|1|4', 'a node is down: the view has it');
like(sql(q{SELECT error FROM partbackfill_nodes.progress WHERE shard = 102}), qr/failed to connect to \Q$names[0]\E/, 'a node is down: why');
$nodes[0]->start;
sql(q{UPDATE partbackfill_nodes.run_job SET node = 'elsewhere:1' WHERE ordinal = 5});
is(sql(q{SELECT state, error FROM partbackfill_nodes.progress WHERE node = 'elsewhere:1'}), 'node down|Citus has no such node', 'a node that Citus has not is not spoken to');
sql("UPDATE partbackfill_nodes.run_job SET node = '$names[1]' WHERE ordinal = 5");
is(sql(q{SELECT partbackfill_nodes.forget('moves')}), 5, 'forgotten');
$nodes[0]->stop;
my $down = complaint_of(q{SELECT partbackfill_nodes.start('events', 'raw_events', label => 'late', options => '{"delay": 0, "keep_old": false}')});
is($down, qq{psql:<stdin>:1: WARNING:  node "$names[0]": failed to connect to $names[0]}, 'started without a node: a WARNING');
is(sql(q{SELECT string_agg(shard || ' ' || state, ', ' ORDER BY shard) FROM partbackfill_nodes.jobs() WHERE job IS NULL}), '102 not started', 'started without a node: its job is not started');
is(sql(q{SELECT partbackfill_nodes.wait('late', '180 s')}), 'failed', 'started without a node: not all is done');
$nodes[0]->start;
is(sql(q{SELECT partbackfill_nodes.retry('late')}), 1, 'retry: what was not started');
is(sql(q{SELECT partbackfill_nodes.wait('late', '180 s')}), 'done', 'retry: done');
is(wrong_rows(1), 0, 'retry: the rows are right');
is(sql(q{SELECT partbackfill_nodes.forget('late')}), 4, 'retry: forgotten');
is(sql('SELECT count(*) FROM partbackfill_nodes.run'), 0, 'the run, too');
is(join(' ', map { on_node($_, 'SELECT count(*) FROM backfill_status') } 0, 1), '0 0', 'and its jobs');

$gates[1]->quit;
$_->stop for @nodes, $coordinator;
done_testing();
