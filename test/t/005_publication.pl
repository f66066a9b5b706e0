# A job says nothing to subscribers: of a publication FOR ALL TABLES they get neither the rows of a partition that is
# rebuilt, for which they have no table, nor the control tables' changes.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('publisher', allows_streaming => 'logical', settings => ['max_connections = 20']);
$node->safe_psql('postgres', <<'SQL');
    CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
    CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL, wide text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    -- one that is not filled as a plain heap is
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300) USING other;
    CREATE INDEX ON t (v);
    INSERT INTO t SELECT k, 'old', 'short' FROM generate_series(0, 299) AS k;
    CREATE VIEW new AS
        SELECT k, 'new' AS v, (SELECT string_agg(md5(k::text || n::text), '') FROM generate_series(1, 200) AS n) AS wide
        FROM generate_series(0, 299) AS k;
    CREATE FUNCTION fail(k int) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        IF k = 250 THEN
            RAISE 'no: %', (SELECT string_agg(md5(n::text), ' ') FROM generate_series(1, 500) AS n);
        END IF;
        RETURN 'new';
    END
    $$;
    CREATE PUBLICATION everything FOR ALL TABLES;
    SELECT pg_create_logical_replication_slot('pgoutput', 'pgoutput') \g /dev/null
    SELECT pg_create_logical_replication_slot('decoding', 'test_decoding') \g /dev/null
SQL

# The kinds of messages that a subscriber would get: 'I' is a row inserted, 'T' a truncation, 'R' tells of a table. And
# what all of it is, in words.
sub messages {
    return $node->safe_psql('postgres', <<'SQL');
        SELECT string_agg(DISTINCT chr(get_byte(data, 0)), '' ORDER BY chr(get_byte(data, 0)))
        FROM pg_logical_slot_peek_binary_changes('pgoutput', NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')
        WHERE chr(get_byte(data, 0)) NOT IN ('B', 'C')
SQL
}

sub changes {
    return $node->safe_psql('postgres', <<'SQL');
        SELECT DISTINCT substring(data FROM 1 FOR 40)
        FROM pg_logical_slot_peek_changes('decoding', NULL, NULL) WHERE data !~ '^(BEGIN|COMMIT)' ORDER BY 1
SQL
}

# A text too long for a page goes to a TOAST table, whose rows are decoded by other rules.
my $comment = '/* ' . join(' ', map { sprintf '%x', $_ * 2654435761 } 1 .. 3000) . ' */';

# Jobs of all kinds: done, failed, canceled; by queries short and long.
sub run_jobs {
    my ($title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $job = start_job($node, q{'t', 'new', delay => '0', workers => 2});
    is(wait_job($node, $job), 'done', "$title: a job is done");
    is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '3', "$title: its old partitions are purged");
    $job = start_job($node, "'t', 'SELECT * FROM new $comment', delay => '0', keep_old => false");
    is(wait_job($node, $job), 'done', "$title: one with a long query is done");
    $job = start_job($node, q{'t', 'new', swap => 'storage', delay => '0', keep_old => false});
    is(wait_job($node, $job), 'done', "$title: one that exchanges files is done");
    $job = start_job($node, q{'t', 'SELECT k, fail(k) AS v, wide FROM new', delay => '0', keep_old => false, max_attempts => 2});
    is(wait_job($node, $job), 'failed', "$title: one fails");
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$title: and is canceled");
    $job = start_job($node, q{'t', 'new', delay => '1 hour', keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    cancel_job($node, $job);
    is(wait_job($node, $job), 'canceled', "$title: one is canceled");
    is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE length(wide) = 6400) FROM t'), '300|300',
        "$title: the rows are there");
    check_clean($node, $title);
    return;
}

#
# What is decoded
#
run_jobs('decoded');
is(messages(), '', 'decoded: nothing is sent to subscribers');
is(changes(), '', 'decoded: there is nothing else either');
$node->safe_psql('postgres', q{UPDATE t SET v = 'mine' WHERE k IN (1, 201)});
like(messages(), qr/U/, 'decoded: but the changes of others are sent');
is(changes() =~ s/(UPDATE).*$/$1/rgm, "table public.t_1: UPDATE\ntable public.t_3: UPDATE",
    'decoded: those of rebuilt partitions too');
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('pgoutput'), pg_drop_replication_slot('decoding')");

#
# A subscriber that has the table and nothing of ours
#
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical', extra => [ '--locale=C', '--encoding=UTF8' ]);
$subscriber->append_conf('postgresql.conf', "max_worker_processes = 16\nwal_retrieve_retry_interval = 100ms\n");
$subscriber->start;
$subscriber->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL, wide text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300);
SQL
$node->safe_psql('postgres', "CREATE PUBLICATION table_t FOR TABLE t");
my $connection = $node->connstr . ' dbname=postgres';
# Subscribed to the table while all tables are published.
$subscriber->safe_psql('postgres',
    "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION table_t; ALTER SUBSCRIPTION s SET PUBLICATION everything WITH (refresh = false)");
$subscriber->wait_for_subscription_sync($node, 's');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM t'), '300', 'subscribed: the rows were copied');
run_jobs('subscribed');
$node->safe_psql('postgres', "UPDATE t SET v = 'after' WHERE k IN (2, 102, 202)");
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', "SELECT string_agg(tableoid::regclass || ' ' || k, ', ' ORDER BY k) FROM t WHERE v = 'after'"),
    't_1 2, t_2 102, t_3 202', 'subscribed: later changes of rebuilt partitions arrive');
is($subscriber->safe_psql('postgres', 'SELECT apply_error_count FROM pg_stat_subscription_stats'), '0',
    'subscribed: nothing could not be applied');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL'), '1',
    'subscribed: the subscription is alive');

#
# A partition that is filled by a subscription: another table in its place would be filled no more
#
$subscriber->safe_psql('postgres', 'CREATE EXTENSION partbackfill');
my ($sqlstate, $message) = error_of($subscriber, q{SELECT backfill_start('t', 't', swap => 'attach', delay => '0')});
is($sqlstate, '0A000', 'at the subscriber: refused');
like($message, qr/subscription s\b/, 'at the subscriber: the reason');

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;
$node->stop;
done_testing();
