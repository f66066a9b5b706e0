# A queue is consumed by statements that lock rows and write them at once, as pgmq and pg-boss do: all the time, in all
# partitions, while builds hold writers. Every partition is rebuilt, and every message consumed exactly once.
#
# BACKFILL_ROUNDS: how many more rounds of random timing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('queues');
my $queues = 6;

# An event is in one statement with what it tells of.
$node->safe_psql('postgres', <<"SQL");
    CREATE TABLE message (queue int, id bigint, state text NOT NULL DEFAULT 'created', read_ct int NOT NULL DEFAULT 0,
        vt timestamptz NOT NULL DEFAULT clock_timestamp(), body text, PRIMARY KEY (queue, id)) PARTITION BY LIST (queue);
    SELECT format('CREATE TABLE message_%s PARTITION OF message FOR VALUES IN (%s)', n, n) FROM generate_series(1, $queues) AS n \\gexec
    CREATE TABLE event (queue int, id bigint, what text);
    CREATE SEQUENCE ids;
SQL

my $client = PostgreSQL::Test::Utils::tempdir() . '/queue.pgbench';
append_to_file($client, <<"SQL");
\\set queue random(1, $queues)
\\set other random(1, $queues)
-- send
WITH s AS (INSERT INTO message (queue, id, body) SELECT :queue, nextval('ids'), 'm' FROM generate_series(1, 3) RETURNING queue, id)
INSERT INTO event SELECT queue, id, 'sent' FROM s;
-- read: seen by nobody else for a while
WITH next AS (SELECT id FROM message WHERE queue = :queue AND vt <= clock_timestamp() AND state = 'created'
              ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED),
     r AS (UPDATE message AS m SET vt = clock_timestamp() + interval '5 ms', read_ct = read_ct + 1
           FROM next WHERE m.queue = :queue AND m.id = next.id RETURNING m.queue, m.id)
INSERT INTO event SELECT queue, id, 'read' FROM r;
-- pop
WITH next AS (SELECT id FROM message WHERE queue = :other AND vt <= clock_timestamp() AND state = 'created'
              ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
     r AS (DELETE FROM message WHERE queue = :other AND id IN (SELECT id FROM next) RETURNING queue, id)
INSERT INTO event SELECT queue, id, 'consumed' FROM r;
-- fetch
WITH next AS (SELECT id FROM message WHERE queue = :queue AND state < 'd' AND vt < now() ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED)
UPDATE message AS m SET state = 'taken' FROM next WHERE m.queue = :queue AND m.id = next.id;
-- complete
WITH done AS (SELECT id FROM message WHERE queue = :queue AND state = 'taken' ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED),
     r AS (UPDATE message SET state = 'over' WHERE queue = :queue AND id IN (SELECT id FROM done) RETURNING queue, id)
INSERT INTO event SELECT queue, id, 'consumed' FROM r;
SQL

my $wrong = <<'SQL';
    SELECT 'consumed twice: ' || count(*) FROM (SELECT FROM event WHERE what = 'consumed' GROUP BY id HAVING count(*) > 1) AS s
    HAVING count(*) > 0
    UNION ALL
    SELECT 'lost: ' || count(*) FROM (SELECT id FROM event WHERE what = 'sent' EXCEPT SELECT id FROM event WHERE what = 'consumed'
                                      EXCEPT SELECT id FROM message) AS s HAVING count(*) > 0
    UNION ALL
    SELECT 'not as it was left: ' || count(*) FROM message AS m
    WHERE (m.state = 'over') <> EXISTS (SELECT FROM event AS e WHERE e.id = m.id AND e.what = 'consumed')
       OR m.read_ct <> (SELECT count(*) FROM event AS e WHERE e.id = m.id AND e.what = 'read')
    HAVING count(*) > 0
SQL

my @kinds = ([ 'attach', 'block' ], [ 'storage', 'block' ], [ 'storage', 'rebuild' ]);
for my $round (0 .. $#kinds + ($ENV{BACKFILL_ROUNDS} // 0)) {
    my ($method, $on_write) = @{ $kinds[ $round % @kinds ] };
    my $title = "$method, $on_write" . ($round < @kinds ? '' : ", round $round");
    my ($build, $workers) = $round < @kinds ? (0.1, 1) : (rand 0.2, 1 + int rand 3);
    $node->safe_psql('postgres', 'TRUNCATE message, event; CREATE INDEX IF NOT EXISTS event_id ON event (id)');
    my $clients = start_clients($node, 4, '-R', '60', '-f', $client);
    await($node, "SELECT count(DISTINCT queue) = $queues FROM event WHERE what = 'consumed'");
    # It takes long enough to be written to, whatever the plan: a subquery instead would sleep once a row by some.
    my $job = start_job($node, qq{'message', \$\$WITH slept AS MATERIALIZED (SELECT pg_sleep($build)) SELECT m.* FROM message AS m, slept\$\$, workers => $workers,
        swap => '$method', on_write => '$on_write', delay => '0', keep_old => false});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT state || coalesce(error, ''), E'\\n') FROM backfill_progress WHERE job = $job"),
        'done', "$title: so is every partition");
    unlike(stop_clients($clients), qr/ERROR|aborted/, "$title: no statement fails");
    is($node->safe_psql('postgres', $wrong), '', "$title: every message is consumed once and none lost");
    check_clean($node, $title);
}

$node->stop;
done_testing();
