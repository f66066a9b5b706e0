# contrib/postgres_fdw and docs/distributed.md: a table of which the partitions are foreign ones on two servers, each of them partitioned by
# month there, is recomputed by one call on the coordinator. Readers and writers come through the coordinator; a node goes down and comes
# back; all is controlled from one place.
use strict;
use warnings;

use Backfill;
use FindBin;
use ForeignNodes;
use PostgreSQL::Test::Utils;
use Test::More;

my ($coordinator, @nodes) = foreign_nodes();
for my $i (0, 1) {
    on_node($i, <<'SQL');
        CREATE TABLE broken (k int);
        GRANT SELECT ON broken TO app;
        SET ROLE app;
        CREATE TABLE plain (tenant int, id bigint, at timestamptz, cents bigint);
SQL
    for my $piece (2 * $i, 2 * $i + 1) {
        on_node($i, <<"SQL");
            SET ROLE app;
            CREATE TABLE events_$piece (tenant int, id bigint, at timestamptz, amount numeric NOT NULL, PRIMARY KEY (tenant, id, at)) PARTITION BY RANGE (at);
            CREATE TABLE raw_events_$piece (tenant int, id bigint, at timestamptz, cents bigint NOT NULL, PRIMARY KEY (tenant, id, at)) PARTITION BY RANGE (at);
            SELECT format('CREATE TABLE %1\$s_${piece}_%2\$s PARTITION OF %1\$s_$piece FOR VALUES FROM (%3\$L) TO (%4\$L)', t, to_char(m, 'MM'), m, m + interval '1 month')
            FROM unnest('{events,raw_events}'::text[]) AS t, generate_series('2024-01-01'::timestamptz, '2024-12-01', '1 month') AS m
            \\gexec
SQL
    }
}
$coordinator->safe_psql('postgres', 'CREATE ROLE other LOGIN; CREATE ROLE colleague LOGIN IN ROLE app');
sql(<<'SQL');
    CREATE TABLE events (tenant int, id bigint, at timestamptz, amount numeric) PARTITION BY HASH (tenant);
    CREATE TABLE raw_events (tenant int, id bigint, at timestamptz, cents bigint) PARTITION BY HASH (tenant);
    CREATE TABLE raw_turned (LIKE raw_events) PARTITION BY HASH (tenant);
    SELECT format('CREATE FOREIGN TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES WITH (MODULUS 4, REMAINDER %2$s) SERVER node_%3$s', t, i, 1 + i / 2)
    FROM unnest('{events,raw_events}'::text[]) AS t, generate_series(0, 3) AS i
    UNION ALL
    SELECT format('CREATE FOREIGN TABLE raw_turned_%1$s PARTITION OF raw_turned FOR VALUES WITH (MODULUS 4, REMAINDER %1$s) SERVER node_%2$s OPTIONS (table_name ''raw_events_%1$s'')', i, 2 - i / 2)
    FROM generate_series(0, 3) AS i
    \gexec
    INSERT INTO raw_events SELECT id % 40, id, '2024-01-01'::timestamptz + id * interval '105 minutes', id FROM generate_series(1, 4800) AS id;
    INSERT INTO events SELECT tenant, id, at, 0 FROM raw_events;
    CREATE TABLE anomaly (what text);
    CREATE TABLE reading (half boolean);
SQL
is(sql('SELECT count(*), sum(cents) FROM raw_events'), '4800|11522400', 'the rows are on the nodes');
my $source = q{'SELECT tenant, id, at, cents / 100.0 AS amount FROM {source} WHERE pass_gate(1)', 'raw_events'};
my @gates = map { session($_) } @nodes;

#
# What is refused
#
is_refused(qq{'events', $source, options => '{"worker": 2}'},
    qr/there is no option "worker".*Options are: allow_shrink, audits, .*, workers\./s, 'an option that there is not');
is_refused(qq{'events', $source, options => '{"partitions": "{}"}'}, qr/there is no option "partitions"/, 'an option for one node');
is_refused(q{'events', 'SELECT tenant, id, at, 0 AS amount FROM plain'}, qr/source must read \{source\} for table public\.events_0 of node "node_1"/,
    'HASH partitions, and a source that is not divided');
is_refused(q{'events', 'SELECT * FROM {source}', 'raw_turned'},
    qr/table public\.raw_turned is not divided like public\.events.*no partition with the bounds of public\.events_0 on server "node_1"/s, 'a source on the other node');
is_refused(q{'anomaly', 'SELECT 1'}, qr/public\.anomaly is not a partitioned table/, 'a table that is not partitioned');
is_refused(qq{'events', $source, repeat('x', 190)}, qr/label must have at most 184 bytes/, 'a label that is too long');
is_refused(q{'events', 'SELECT nothing FROM {source}', 'raw_events'}, qr/no job could be started: node "node_1": column "nothing" does not exist/,
    'a source that no node can run');
is(on_node(0, 'SELECT count(*) FROM backfill_status') + on_node(1, 'SELECT count(*) FROM backfill_status'), 0, 'no refused call has started a job');

#
# One call, while the table is read and written through the coordinator
#
my $read = "$PostgreSQL::Test::Utils::tmp_check/read.pgbench";
append_to_file($read, <<'SQL');
SELECT count(*) AS rows, count(*) FILTER (WHERE amount NOT IN (0, id / 100.0)) AS wrong FROM events WHERE id <= 4800 \gset
SELECT count(*) AS mixed FROM (SELECT FROM events WHERE id <= 4800 GROUP BY tableoid, date_trunc('month', at) HAVING count(DISTINCT amount = 0) > 1) AS m \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) AS first_rows, sum(amount) AS first_sum FROM events WHERE id <= 4800 \gset
\sleep 5 ms
SELECT count(*) AS second_rows, sum(amount) AS second_sum FROM events WHERE id <= 4800 \gset
COMMIT;
\if :rows != 4800 or :wrong != 0 or :mixed != 0 or :first_rows != 4800 or :second_rows != 4800 or :first_sum != :second_sum
INSERT INTO anomaly VALUES (':rows :wrong :mixed :first_rows :second_rows :first_sum :second_sum');
\endif
INSERT INTO reading VALUES (:first_sum BETWEEN 1 AND 115223.99);
SQL
my $write = "$PostgreSQL::Test::Utils::tmp_check/write.pgbench";
append_to_file($write, <<'SQL');
\set tenant random(0, 39)
\set id random(1000000, 1000000000000)
\set hour random(1, 8700)
\set cents random(1, 100000)
BEGIN;
INSERT INTO raw_events VALUES (:tenant, :id, '2024-01-01'::timestamptz + :hour * interval '1 hour', :cents);
INSERT INTO events VALUES (:tenant, :id, '2024-01-01'::timestamptz + :hour * interval '1 hour', :cents / 100.0);
COMMIT;
BEGIN;
UPDATE raw_events SET cents = cents + 1 WHERE tenant = :tenant AND id = :id;
UPDATE events SET amount = (:cents + 1) / 100.0 WHERE tenant = :tenant AND id = :id;
COMMIT;
\if :cents < 25000
BEGIN;
DELETE FROM raw_events WHERE tenant = :tenant AND id = :id;
DELETE FROM events WHERE tenant = :tenant AND id = :id;
COMMIT;
\endif
SQL
my $right = q{SELECT count(*) FROM events AS e FULL JOIN raw_events AS r USING (tenant, id, at) WHERE e.amount IS DISTINCT FROM r.cents / 100.0};

close_gate($_, 1) for @gates;
is(sql(qq{SELECT partbackfill_nodes.start('events', $source, 'first', '{"on_write": "catch_up", "delay": 0, "workers": 2}')}), 'first', 'one call: started');
is(sql('SELECT label, owner, target, state, jobs, running, done, failed, moved, unreachable, partitions, partitions_done, percent FROM partbackfill_nodes.status'),
    'first|app|public.events|running|4|4|0|0|0|0|48|0|0.0', 'one call: a row for all of it');
is(sql(q{SELECT string_agg(concat_ws(' ', node, target, state, partitions), ', ' ORDER BY target) FROM partbackfill_nodes.progress}),
    'node_1 public.events_0 running 12, node_1 public.events_1 running 12, node_2 public.events_2 running 12, node_2 public.events_3 running 12',
    'one call: a row a job');
is((attempt(qq{SELECT partbackfill_nodes.start('events', $source, 'first')}))[1] =~ s/^DETAIL.*\n?//gmr,
    'NOTICE:  run "first" goes on with the arguments with which it was started', 'the same call again: says so');
is(on_node(0, 'SELECT count(*) FROM backfill_status') . on_node(1, 'SELECT count(*) FROM backfill_status'), '22', 'the same call again: starts nothing');
like((attempt(q{SELECT partbackfill_nodes.start('raw_events', 'TABLE {source}', label => 'first')}))[1], qr/label "first" already belongs to a run/,
    'the label with another table: refused');
my $clients = start_clients($coordinator, 4, '-U', 'app', '--max-tries', '100', '-f', "$read\@1", '-f', "$write\@3");
open_gate($_, 1) for @gates;
is(sql(q{SELECT partbackfill_nodes.wait('first', '180 s')}), 'done', 'one call: done');
my $before = sql('SELECT count(*) FROM raw_events');
await_all("SELECT count(*) <> $before FROM raw_events", 't');
is(stop_clients($clients) =~ s/^pgbench.*(?:server version|vacuum).*\n//gmr, '', 'one call: readers and writers have no error');
is(sql('SELECT state, jobs, done, failed, partitions, partitions_done, percent, error FROM partbackfill_nodes.status'), 'done|4|4|0|48|48|100.0|',
    'one call: 48 of 48');
is(sql('SELECT string_agg(what, E\'\n\') FROM anomaly'), '', 'one call: no reader saw a part or a mixture');
is(sql($right), 0, 'one call: no write is lost, and all rows are new');
ok($before > 4800, 'one call: there were writers: ' . ($before - 4800) . ' rows');
my ($readings, $halves) = split /\|/, sql('SELECT count(*), count(*) FILTER (WHERE half) FROM reading');
ok($halves > 0, "one call: readers read while a part was done: $halves of $readings times");
is(sql('SELECT count(*) FROM partbackfill_nodes.status', 'other') . sql('SELECT count(*) FROM partbackfill_nodes.run_job', 'other'), '00', 'another role: sees no run');
like((attempt(q{SELECT partbackfill_nodes.purge('first')}, 'other'))[1], qr/there is no run "first"/, 'another role: changes none');
like((attempt(q{INSERT INTO partbackfill_nodes.run VALUES ('app', 'x', '', '', '', '{}', '')}, 'other'))[1], qr/violates row-level security policy/, 'another role: adds none');
sql(q{INSERT INTO partbackfill_nodes.run VALUES ('other', 'first', '', '', '', '{}', '')}, 'other');
my (undef, undef, $several) = $coordinator->psql('postgres', q{SELECT partbackfill_nodes.pause('first')});
like($several, qr/several roles have a run "first"\nDETAIL:  They are: app, other\./, 'who sees the runs of several roles says which he means');
sql(q{DELETE FROM partbackfill_nodes.run}, 'other');

# A run may name any server; where that leads is for its owner to say, and a superuser sees all runs.
$coordinator->safe_psql('postgres', 'GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO other');
sql(sprintf(q{CREATE SERVER trap FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres');
    CREATE USER MAPPING FOR PUBLIC SERVER trap OPTIONS (user 'postgres');
    INSERT INTO partbackfill_nodes.run VALUES ('other', 'trap', '', '', '', '{}', '');
    INSERT INTO partbackfill_nodes.run_job (owner, label, ordinal, node, target, source, job, state) VALUES ('other', 'trap', 1, 'trap', 'x', '', 1, 'started')},
        $coordinator->host, $coordinator->port), 'other');
is($coordinator->safe_psql('postgres', q{SELECT state, error FROM partbackfill_nodes.progress WHERE label = 'trap'}),
    'node down|server "trap" belongs neither to you nor to a superuser', 'a superuser is not sent to a server of another role');
sql(q{DELETE FROM partbackfill_nodes.run; DROP SERVER trap CASCADE}, 'other');
$coordinator->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN DATA WRAPPER postgres_fdw FROM other');

# Who changes a source has it run by the owner of the run.
$coordinator->safe_psql('postgres', $coordinator->safe_psql('postgres', 'SHOW server_version_num') >= 160000
    ? 'CREATE ROLE lesser LOGIN; GRANT app TO lesser WITH INHERIT TRUE, SET FALSE' : 'CREATE ROLE lesser LOGIN NOINHERIT IN ROLE app');
is(sql(q{UPDATE partbackfill_nodes.run_job SET source = 'SELECT 1' RETURNING 1}, 'lesser'), '', 'a member that may not become the role, or has not its rights, changes no run');
is(sql('SELECT state, unreachable FROM partbackfill_nodes.status', 'colleague'), 'failed|2', 'a member of the role without a user mapping sees it, but not the nodes');
like(sql('SELECT min(error) FROM partbackfill_nodes.progress', 'colleague'), qr/user mapping not found/, '... and why');
is(sql(q{SELECT partbackfill_nodes.purge('first')}), 48, 'purge: as many as were kept');
await_clean('purge');
is(sql(q{SELECT partbackfill_nodes.forget('first')}), 4, 'forget: as many jobs');
is(sql('SELECT count(*) FROM partbackfill_nodes.status') . sql('SELECT count(*) FROM partbackfill_nodes.run_job'), '00', 'forget: the run, too');
is(on_node(0, 'SELECT count(*) FROM backfill_status') . on_node(1, 'SELECT count(*) FROM backfill_status'), '00', 'forget: on the nodes');
sql('DELETE FROM events WHERE id > 4800; DELETE FROM raw_events WHERE id > 4800; UPDATE events SET amount = 0');

#
# The document
#
my @blocks = slurp_file("$FindBin::RealBin/../../docs/distributed.md") =~ /^```sql\n(.*?)^```/gms;
is(scalar @blocks, 1, 'distributed.md: its block is found');
my $shown = sql($blocks[0]);
like($shown, qr/\Acents\ncents\|app\|public\.events\|running\|4\|.*\ndone\n48\n4\z/, 'distributed.md: its block runs');
is(sql($right), 0, 'distributed.md: the rows are right');
await_clean('distributed.md');

#
# A node goes down and comes back
#
my $again = $source =~ s|cents / 100.0|cents * 2|r;
close_gate($_, 1) for @gates;
sql(qq{SELECT partbackfill_nodes.start('events', $again, 'second', '{"delay": "0", "keep_old": false}')});
await_at_gate($_, 1) for @nodes;
$gates[1]->quit;
$nodes[1]->stop('immediate');
is(sql(q{SELECT state, running, unreachable FROM partbackfill_nodes.status}), 'running|2|1', 'a node is down: the view has it');
is(sql(q{SELECT string_agg(node || ' ' || state, ', ' ORDER BY ordinal) FROM partbackfill_nodes.jobs()}),
    'node_1 running, node_1 running, node_2 node down, node_2 node down', 'a node is down: its jobs, too');
open_gate($gates[0], 1);
await_all(q{SELECT state, done FROM partbackfill_nodes.status}, 'failed|2');
my ($paused, $complaint) = attempt(q{SELECT partbackfill_nodes.pause('second')});
is($paused, 0, 'a node is down: it is not counted');
is(() = $complaint =~ /^WARNING:  node "node_2": could not establish connection$/gm, 1, 'a node is down: a WARNING');
is(sql(q{SELECT partbackfill_nodes.wait('second', '1 s')}), 'running', 'a node is down: wait() goes on waiting');
$nodes[1]->start;
$gates[1] = session($nodes[1]);
is(sql(q{SELECT partbackfill_nodes.wait('second', '180 s')}), 'done', 'the node is back: the run goes on and ends');
is(sql('SELECT partitions, partitions_done FROM partbackfill_nodes.status'), '48|48', 'the node is back: 48 of 48');
is(sql('SELECT count(*) FROM events WHERE amount <> 2 * id'), 0, 'the node is back: the rows are right');
is(sql(q{SELECT partbackfill_nodes.forget('second')}), 4, 'the node is back: forgotten');
await_clean('the node is back');

#
# A node is down when the run is started
#
$nodes[1]->stop;
(my $label, $complaint) = attempt(qq{SELECT partbackfill_nodes.start('events', $source, 'third', '{"delay": 0}')});
is($label, 'third', 'started without a node: the others do their part');
like($complaint, qr/WARNING:  node "node_2": could not establish connection/, 'started without a node: a WARNING');
is(sql(q{SELECT partbackfill_nodes.wait('third', '180 s')}), 'failed', 'started without a node: not all is done');
is(sql(q{SELECT jobs, done, failed, percent, error ~ '^node_2: could not establish connection' FROM partbackfill_nodes.status}), '4|2|2|50.0|t',
    'started without a node: the view has it');
$nodes[1]->start;
$gates[1] = session($nodes[1]);
sql(qq{SELECT partbackfill_nodes.start('events', $source, 'third', '{"delay": 0}')});
is(sql(q{SELECT partbackfill_nodes.wait('third', '180 s')}), 'done', 'the call again: what was missing is done');
is(on_node(0, 'SELECT count(*) FROM backfill_status') . on_node(1, 'SELECT count(*) FROM backfill_status'), '22', 'the call again: nothing is started twice');
is(sql($right), 0, 'the call again: the rows are right');
my ($stays, $why) = attempt(q{SELECT partbackfill_nodes.forget('third')});
is($stays, 0, 'what keeps old partitions is not forgotten');
like($why, qr/run "third" stays with 4 jobs/, '... and says so');
is(sql(q{SELECT partbackfill_nodes.purge('third')}), 48, 'it is purged');
await_clean('the call again');
is(sql(q{SELECT partbackfill_nodes.forget('third')}), 4, 'and forgotten');

#
# Pause, resume, cancel
#
close_gate($_, 1) for @gates;
sql(qq{SELECT partbackfill_nodes.start('events', $again, 'fourth', '{"delay": 0}')});
await_at_gate($_, 1) for @nodes;
is(sql(q{SELECT partbackfill_nodes.pause('fourth')}), 4, 'pause: all jobs');
is(sql(q{SELECT partbackfill_nodes.wait('fourth', '180 s')}), 'paused', 'pause: they rest');
is(sql(q{SELECT partbackfill_nodes.pause('fourth')}), 0, 'pause: once');
is(sql(q{SELECT partbackfill_nodes.resume('fourth')}), 4, 'resume: all jobs');
is(sql(q{SELECT partbackfill_nodes.wait('fourth', '0')}), 'running', 'resume: they run');
is(sql(q{SELECT partbackfill_nodes.cancel('fourth')}), 4, 'cancel: all jobs');
is(sql(q{SELECT partbackfill_nodes.wait('fourth', '180 s')}), 'canceled', 'cancel: they rest');
open_gate($_, 1) for @gates;
is(sql($right), 0, 'cancel: the rows are as before');
await_clean('cancel');
is(sql(q{SELECT partbackfill_nodes.forget('fourth')}), 4, 'cancel: forgotten');

#
# Retry; a run that is published; settings of the caller
#
on_node(1, 'INSERT INTO broken VALUES (1)');
is(sql(qq{SET search_path = public, nowhere; SELECT partbackfill_nodes.start('events', $again, 'fifth',
            '{"delay": 0, "audits": ["SELECT k FROM broken", "SELECT 1 WHERE current_setting(''search_path'') NOT LIKE ''%nowhere%''"], "publish": "manual"}'::text::jsonb)}), 'fifth', 'audits: started');
is(sql(q{SELECT partbackfill_nodes.wait('fifth', '180 s')}), 'failed', 'audits: those of a node fail');
is(sql(q{SELECT state, failed, error ~ '^node_2: .*audit' FROM partbackfill_nodes.status}), 'failed|2|t', 'audits: the view says where and why');
is(sql(q{SELECT string_agg(state || ' ' || failed, ', ' ORDER BY ordinal) FROM partbackfill_nodes.jobs()}), 'ready 0, ready 0, failed 12, failed 12', 'audits: job by job');
on_node(1, 'DELETE FROM broken');
is(sql(q{SELECT partbackfill_nodes.retry('fifth')}), 24, 'retry: the partitions that had failed');
is(sql(q{SELECT partbackfill_nodes.wait('fifth', '180 s')}), 'ready', 'retry: all are built');
is(sql('SELECT count(*) FROM events WHERE amount <> id / 100.0'), 0, 'ready: no row is new yet');
is(sql(q{SELECT partbackfill_nodes.publish('fifth')}), 48, 'publish: all partitions');
is(sql(q{SELECT partbackfill_nodes.wait('fifth', '180 s')}), 'done', 'publish: done');
is(sql('SELECT count(*) FROM events WHERE amount <> 2 * id'), 0, 'publish: all rows are new');
is(sql(q{SELECT partbackfill_nodes.purge('fifth')}), 48, 'publish: purged');
await_clean('publish');
is(sql(q{SELECT partbackfill_nodes.forget('fifth')}), 4, 'publish: forgotten');

is(sql('SELECT count(*) FROM partbackfill_nodes.run'), 0, 'no run is left');
await_clean('at the end');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM backfill_status'), 0, 'the coordinator has had no job of its own');

$_->quit for @gates;
$_->stop for @nodes, $coordinator;
done_testing();
