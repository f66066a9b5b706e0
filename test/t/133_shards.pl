# Tables of Citus, by a stand-in for its catalogs and functions: a distributed table is refused, a shard gets the rows of its own
# hash range by storage only, and a move of the shard is waited for; what has moved away fails, and is never done with old rows.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use Test::More;

my $node = new_node('shards', settings => ['wal_level = logical']);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE app LOGIN;
    GRANT CREATE ON SCHEMA public TO app;
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char", partkey text, colocationid int, repmodel "char");
    CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint, shardstorage "char", shardminvalue text, shardmaxvalue text);
    CREATE TABLE pg_catalog.pg_dist_placement (placementid bigint, shardid bigint, shardstate int, shardlength bigint, groupid int);
    CREATE TABLE pg_catalog.pg_dist_node (nodeid int, groupid int, nodename text, nodeport int, noderole text);
    CREATE TABLE pg_catalog.pg_dist_local_group (groupid int);
    GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_node,
        pg_catalog.pg_dist_local_group TO PUBLIC;
    INSERT INTO pg_dist_node VALUES (1, 1, 'one.example', 5432, 'primary'), (2, 2, 'two.example', 5433, 'primary');
    INSERT INTO pg_dist_local_group VALUES (1);
    CREATE FUNCTION pg_catalog.worker_hash(bigint) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1 * 1000)::int';
    CREATE FUNCTION pg_catalog.column_to_column_name(regclass, text) RETURNS text LANGUAGE sql AS 'SELECT $2';
    CREATE FUNCTION pg_catalog.relation_is_a_known_shard(regclass) RETURNS boolean LANGUAGE sql AS
        'SELECT EXISTS (SELECT FROM pg_dist_shard AS s JOIN pg_class AS l ON l.oid = s.logicalrelid
                        JOIN pg_class AS c ON c.relname = l.relname || ''_'' || s.shardid WHERE c.oid = $1)';
    CREATE FUNCTION pg_catalog.lock_shard_metadata(mode int, shards bigint[]) RETURNS void LANGUAGE sql AS
        'SELECT CASE mode WHEN 5 THEN pg_advisory_xact_lock_shared(s) WHEN 7 THEN pg_advisory_xact_lock(s) END FROM unnest(shards) AS s';
    SET ROLE app;
    CREATE TABLE events (tenant bigint, at int, v text NOT NULL, PRIMARY KEY (tenant, at)) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (100) TO (200);
    CREATE TABLE events_101 (LIKE events INCLUDING ALL) PARTITION BY RANGE (at);
    CREATE TABLE events_1_102 PARTITION OF events_101 FOR VALUES FROM (0) TO (100);
    CREATE TABLE events_2_103 PARTITION OF events_101 FOR VALUES FROM (100) TO (200);
    CREATE TABLE plain (LIKE events INCLUDING ALL) PARTITION BY RANGE (at);
    CREATE TABLE plain_1_102 PARTITION OF plain FOR VALUES FROM (0) TO (100);
    CREATE TABLE "All" (tenant bigint, at int, v text);
    INSERT INTO "All" SELECT tenant, at, 'new' FROM generate_series(-4, 4) AS tenant, generate_series(0, 199) AS at;
    INSERT INTO events_101 SELECT tenant, at, 'old' FROM generate_series(1, 4) AS tenant, generate_series(0, 199) AS at;
    RESET ROLE;
    INSERT INTO pg_dist_partition SELECT t::regclass, 'h', 'tenant', 1, 's' FROM unnest('{events,events_1,events_2}'::text[]) AS t;
    INSERT INTO pg_dist_shard VALUES ('events', 101, 't', '0', '5000'), ('events_1', 102, 't', '0', '5000'), ('events_2', 103, 't', '0', '5000');
    INSERT INTO pg_dist_placement SELECT s, s, 1, 0, 1 FROM generate_series(101, 103) AS s;
SQL

my $app = 'SET ROLE app; SET client_min_messages = warning;';

sub start {
    my ($arguments) = @_;
    return $node->safe_psql('postgres', "$app SELECT backfill_start($arguments, delay => '0')");
}

sub refused {
    my ($arguments, $message, $title) = @_;
    my ($status, $out, $error) = $node->psql('postgres', "$app SELECT backfill_start($arguments)");
    like($error, $message, $title);
    return;
}

sub rows_of {
    my ($table) = @_;
    return $node->safe_psql('postgres', "SELECT v, count(*), min(tenant), max(tenant) FROM $table GROUP BY v ORDER BY v");
}

sub tidy {
    my ($job, $title) = @_;
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)") if states($node, $job) =~ /failed|pending|running|ready/;
    $node->safe_psql('postgres', "SELECT backfill_wait($job), backfill_purge($job), backfill_wait($job)");
    check_clean($node, $title);
    $node->safe_psql('postgres', q{UPDATE events_101 SET v = 'old'});
    return;
}

for my $table (qw(events events_1)) {
    refused("'$table', 'SELECT * FROM \"All\"'", $table eq 'events' ? qr/table "events" is distributed by Citus/ : qr/not a partitioned table/, "$table is refused");
}
my (undef, undef, $plan) = $node->psql('postgres', "$app SELECT * FROM backfill_plan('events', 'SELECT * FROM \"All\"')");
like($plan, qr/table "events" is distributed by Citus.*contrib\/citus/s, 'by backfill_plan, too');
refused(q{'events_101', 'SELECT * FROM "All"', swap => 'attach'}, qr/is a shard of Citus, of which sessions keep plans/, 'attach is refused on a shard');
refused(q{'events_101', 'SELECT tenant::int, at, v FROM "All"'}, qr/column "tenant" of the source must have the type/,
    'the distribution column is a key, too');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT action, ' ') FROM backfill_plan('plain', 'SELECT * FROM "All"')}),
    'rebuild', 'a table that is only named like a shard is none');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill_plan('plain') AS p, unnest(p.hazards) AS h WHERE h LIKE '%shard%'}), 0, 'and no hazard says so');

{
    my $title = 'all rows in the source';
    my $job = start(q{'events_101', '"All"'});
    is(wait_job($node, $job), 'done', "$title: done");
    is(rows_of('events_101'), 'new|1000|0|4', "$title: those of the hash range are there");
    is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT swap, ' ') FROM backfill_progress WHERE job = $job"), 'storage', "$title: by storage");
    tidy($job, $title);
    $node->safe_psql('postgres', 'DELETE FROM events_101 WHERE tenant = 0');
}

{
    my $title = 'catching up';
    set_point($node, 'built/1 stop');
    my $job = start(q{'events_101', '"All"', on_write => 'catch_up'});
    await_point($node, $job, 'built');
    $node->safe_psql('postgres', q{INSERT INTO events_101 VALUES (7, 5, 'other'), (3, 5, 'x') ON CONFLICT (tenant, at) DO UPDATE SET v = 'x'});
    clear_point($node);
    is(wait_job($node, $job), 'done', "$title: done");
    is($node->safe_psql('postgres', 'SELECT count(*), max(tenant) FROM events_101'), '1000|4', "$title: no row of another shard came by its key");
    tidy($job, $title);
    $node->safe_psql('postgres', 'DELETE FROM events_101 WHERE tenant = 0');
}

# What a swap waits for: a publication that a move makes, or the lock by which a move keeps writers out.
for my $on_write (qw(rebuild catch_up block ignore)) {
    for my $way (qw(publication lock)) {
        my $title = "$on_write, a move by $way";
        my $mover = session($node);
        $mover->query_safe(
            $way eq 'lock'
            ? 'BEGIN; SELECT lock_shard_metadata(7, ARRAY[101])'
            : 'CREATE PUBLICATION citus_shard_move_publication_2_10_1 FOR TABLE events_1_102, events_2_103');
        my $job = start("'events_101', '\"All\"', on_write => '$on_write'");
        await($node, "SELECT waiting_on = 'shard move' FROM backfill_progress WHERE job = $job AND ordinal = 1");
        is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
            WHERE a.backend_type = 'partbackfill worker' AND l.relation IN ('events_1_102'::regclass, 'events_101'::regclass)
              AND l.mode IN ('AccessExclusiveLock', 'ShareRowExclusiveLock')}), 0, "$title: no lock on the partition meanwhile");
        is(rows_of('events_101'), 'old|800|1|4', "$title: nothing is exchanged");
        $mover->query_safe($way eq 'lock' ? 'COMMIT' : 'DROP PUBLICATION citus_shard_move_publication_2_10_1');
        $mover->quit;
        is(wait_job($node, $job), 'done', "$title: done when the move has ended");
        is(rows_of('events_101'), 'new|1000|0|4', "$title: with the new rows");
        tidy($job, $title);
        $node->safe_psql('postgres', 'DELETE FROM events_101 WHERE tenant = 0');
    }
}

# Those of a job of which the shard was moved between two swaps, or before its last one, are failed.
for my $on_write (qw(rebuild catch_up block ignore)) {
    for my $way (qw(moved split dropped)) {
        my $title = "$on_write, the shard was $way";
        my $mover = session($node);
        $mover->query_safe('CREATE PUBLICATION citus_shard_split_publication_1 FOR TABLE events_2_103');
        my $job = start("'events_101', '\"All\"', on_write => '$on_write'");
        await($node, "SELECT waiting_on = 'shard move' FROM backfill_progress WHERE job = $job AND ordinal = 2");
        $mover->query_safe($way eq 'split' ? 'DELETE FROM pg_dist_placement; DELETE FROM pg_dist_shard' : 'UPDATE pg_dist_placement SET groupid = 2');
        $mover->query_safe('ALTER TABLE events_101 DETACH PARTITION events_2_103') if $way eq 'dropped';
        $mover->query_safe('DROP PUBLICATION citus_shard_split_publication_1');
        is(wait_job($node, $job), 'failed', "$title: the job failed");
        is(states($node, $job), 'done failed', "$title: the partition that was not swapped has");
        like(
            $node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 2"),
            $way eq 'split' ? qr/has left this node\nDetail: Shard 101 was split/ : qr/has left this node\nDetail: Shard 101 was moved to two.example:5433/,
            "$title: with the reason");
        is($node->safe_psql('postgres', 'SELECT DISTINCT v FROM events_2_103'), 'old', "$title: its rows stay");
        is($node->safe_psql('postgres', "SELECT attempts < 2 FROM backfill_progress WHERE job = $job AND ordinal = 2"), 't', "$title: it is not built again");
        refused(q{'events_101', '"All"'}, qr/shard "events_101" is not on this node.*two\.example:5433/s, "$title: another job is refused") if $way eq 'moved';
        $node->safe_psql('postgres', 'ALTER TABLE events_101 ATTACH PARTITION events_2_103 FOR VALUES FROM (100) TO (200)') if $way eq 'dropped';
        tidy($job, $title);
        $mover->query_safe(q{UPDATE pg_dist_placement SET groupid = 1;
            INSERT INTO pg_dist_shard SELECT * FROM (VALUES ('events'::regclass, 101, 't'::"char", '0', '5000'), ('events_1', 102, 't', '0', '5000'),
                ('events_2', 103, 't', '0', '5000')) AS s WHERE NOT EXISTS (SELECT FROM pg_dist_shard);
            INSERT INTO pg_dist_placement SELECT s, s, 1, 0, 1 FROM generate_series(101, 103) AS s WHERE NOT EXISTS (SELECT FROM pg_dist_placement)});
        $mover->quit;
        $node->safe_psql('postgres', 'DELETE FROM events_101 WHERE tenant = 0');
    }
}

# The table is another one by then, or not a local one any more.
for my $way ('moved away and back', 'its table was distributed') {
    my $title = $way;
    my $distributed = $way =~ /distributed/;
    my $target = $distributed ? 'plain' : 'events_101';
    my $partition = $distributed ? 'plain_1_102' : 'events_1_102';
    my $gate = session($node);
    close_gate($gate, 1);
    my $job = start("'$target', 'SELECT * FROM \"All\" WHERE pass_gate(1)', partitions => '{$partition}', swap => 'storage'");
    await_at_gate($node, 1);
    $node->safe_psql('postgres', $distributed ? "INSERT INTO pg_dist_partition VALUES ('plain', 'h', 'tenant', 1, 's')" : 'ALTER TABLE events_101 RENAME TO events_former');
    open_gate($gate, 1);
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    like(
        $node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"),
        $distributed ? qr/has left this node\nDetail: Its table was distributed/ : qr/has left this node\nDetail: Shard 101 was moved away and back/,
        "$title: with the reason");
    is($node->safe_psql('postgres', "SELECT count(*) FROM $partition WHERE v = 'new'"), 0, "$title: nothing is exchanged");
    $node->safe_psql('postgres', $distributed ? "DELETE FROM pg_dist_partition WHERE logicalrelid = 'plain'::regclass" : 'ALTER TABLE events_former RENAME TO events_101');
    $gate->quit;
    tidy($job, $title);
}

{
    my $title = 'patience';
    $node->safe_psql('postgres', 'CREATE PUBLICATION citus_shard_move_publication_1 FOR TABLE events_1_102');
    my $job = start(q{'events_101', '"All"', swap_patience => '0', partitions => '{events_1_102}'});
    is(wait_job($node, $job), 'failed', "$title: ends");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"),
        qr/found a move of its shard under way/, "$title: with the reason");
    $node->safe_psql('postgres', 'DROP PUBLICATION citus_shard_move_publication_1');
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), 1, "$title: it is retried");
    is(wait_job($node, $job), 'done', "$title: and done");
    tidy($job, $title);
    $node->safe_psql('postgres', 'DELETE FROM events_101 WHERE tenant = 0');
}

for my $publish (qw(together manual)) {
    my $title = "publish => $publish";
    $node->safe_psql('postgres', 'CREATE PUBLICATION citus_shard_move_publication_1 FOR TABLE events_1_102');
    my $publisher = session($node);
    my $job = start("'events_101', '\"All\"', publish => '$publish', on_write => 'catch_up'");
    if ($publish eq 'manual') {
        is(wait_job($node, $job), 'ready', "$title: ready");
        $publisher->query_until(qr/begun/, "\\echo begun\nSELECT backfill_publish($job);\n");
    }
    await($node, "SELECT waiting_on LIKE '%shard move%' FROM backfill_status WHERE job = $job");
    $node->safe_psql('postgres', 'UPDATE pg_dist_placement SET groupid = 2; DROP PUBLICATION citus_shard_move_publication_1');
    isnt(wait_job($node, $job), 'done', "$title: not done, when the shard was moved");
    like($node->safe_psql('postgres', "SELECT string_agg(error, ' ') FROM backfill_progress WHERE job = $job"), qr/has left this node/, "$title: with the reason");
    is(rows_of('events_101'), 'old|800|1|4', "$title: nothing is exchanged");
    $publisher->quit;
    $node->safe_psql('postgres', 'UPDATE pg_dist_placement SET groupid = 1');
    tidy($job, $title);
}

$node->safe_psql('postgres', q{CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN moods AS mood[];
    ALTER TABLE events_101 ADD COLUMN kind moods; UPDATE pg_dist_partition SET partkey = 'kind'});
refused(q{'events_101', 'SELECT *, NULL::moods AS kind FROM "All"'}, qr/cannot rebuild shard "events_101", which is divided by OIDs/, 'a shard by an enum is refused');
$node->safe_psql('postgres', q{ALTER TABLE events_101 DROP COLUMN kind; UPDATE pg_dist_partition SET partkey = 'tenant'});

$node->safe_psql('postgres', 'INSERT INTO pg_dist_placement SELECT s + 10, s, 1, 0, 2 FROM generate_series(101, 103) AS s');
refused(q{'events_101', '"All"'}, qr/cannot rebuild shard "events_101", which has copies.*two\.example/s, 'a shard with copies is refused');
$node->safe_psql('postgres', q{DELETE FROM pg_dist_placement WHERE groupid = 2; UPDATE pg_dist_partition SET partmethod = 'r'});
refused(q{'events_101', '"All"'}, qr/of a table that is not distributed by hash/, 'so is one of a range');
$node->safe_psql('postgres', q{UPDATE pg_dist_partition SET partmethod = 'n'});
my $job = start(q{'events_101', 'SELECT * FROM "All" WHERE tenant > 0'});
is(wait_job($node, $job), 'done', 'the one shard of a table has all of the rows');
is(rows_of('events_101'), 'new|800|1|4', 'and they are there');

$node->stop;
done_testing();
