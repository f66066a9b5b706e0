# A subscriber of a publication FOR ALL TABLES that has the extension too: the publisher's jobs stay the publisher's. Its
# control tables get none of their rows, so that nobody starts them there and their numbers meet none of its own; and a
# job whose row came in another way is passed over.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $table = <<'SQL';
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
SQL
my $publisher = new_node('publisher', allows_streaming => 'logical');
$publisher->safe_psql('postgres', <<"SQL");
    $table
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199) AS k;
    CREATE PUBLICATION everything FOR ALL TABLES;
SQL
# One that is done, and one that goes on whenever it is resumed.
my $source = q{'SELECT k, ''new'' AS v FROM t'};
my $done = start_job($publisher, "'t', $source, delay => '0', keep_old => false");
is(wait_job($publisher, $done), 'done', 'a job of the publisher is done');
my $paused = $publisher->safe_psql('postgres', <<"SQL");
    BEGIN;
    SELECT backfill_start('t', $source, delay => '0', keep_old => false) AS job \\gset
    SELECT backfill_pause(:job) \\g /dev/null
    COMMIT;
    SELECT :job;
SQL
is(wait_job($publisher, $paused), 'paused', 'another one is paused');

my $subscriber = new_node('subscriber', allows_streaming => 'logical',
    settings => [ "shared_preload_libraries = 'partbackfill'", 'wal_retrieve_retry_interval = 100ms' ]);
my $connection = $publisher->connstr . ' dbname=postgres';

sub subscribe {
    my ($title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION everything");
    # Not wait_for_subscription_sync, which ends the script where a table is never copied.
    my $synced = 0;
    for (1 .. 100) {
        $synced = $subscriber->safe_psql('postgres', "SELECT bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel") eq 't';
        last if $synced;
        usleep(100_000);
    }
    ok($synced, "$title: every table is copied");
    is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM t'), '200', "$title: the rows are there");
    return;
}

#
# One without jobs of its own
#
$subscriber->safe_psql('postgres', $table);
subscribe('no job');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM backfill_status'), '0', 'no job: none is shown');
is($subscriber->safe_psql('postgres', 'SELECT backfill_resume()'), '0', 'no job: there is nothing to resume');
$subscriber->restart;
$subscriber->poll_query_until('postgres',
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'partbackfill launcher' AND wait_event IS NOT NULL")
    or die 'no launcher';
is($subscriber->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'"),
    '0', 'no job: the launcher starts no worker');
unlike(slurp_file($subscriber->logfile), qr/goes on/, 'no job: nor has it');
is($subscriber->safe_psql('postgres', "SELECT string_agg(DISTINCT v, ' ') FROM t"), 'new', 'no job: the rows are the publisher\'s');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->safe_psql('postgres', 'DROP TABLE t; DROP EXTENSION partbackfill; CREATE EXTENSION partbackfill');

#
# One that has jobs of the same numbers
#
$subscriber->safe_psql('postgres', <<"SQL");
    $table
    CREATE TABLE own (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE own_1 PARTITION OF own FOR VALUES FROM (0) TO (100);
    CREATE TABLE own_2 PARTITION OF own FOR VALUES FROM (100) TO (200);
    INSERT INTO own SELECT k, 'old' FROM generate_series(0, 199) AS k;
SQL
my $own = start_job($subscriber, "'own', 'own', delay => '1 hour', keep_old => false");
await_partition($subscriber, $own, 1, "state = 'done'");
is($own, $done, 'own job: it has the number of one of the publisher\'s');
subscribe('own job');
is($subscriber->safe_psql('postgres', "SELECT string_agg(job || ' ' || target || ' ' || state, ', ') FROM backfill_status"),
    "$own public.own running", 'own job: it alone is shown');

# Its own writes get through where a superuser has switched triggers off, and in a trigger that an apply worker fires.
$subscriber->safe_psql('postgres', "SET session_replication_role = replica; SELECT backfill_cancel($own)");
is(wait_job($subscriber, $own), 'canceled', 'own job: it can be canceled by a session that acts as a replica');
$subscriber->safe_psql('postgres', <<'SQL');
    CREATE TABLE called (job bigint);
    CREATE FUNCTION rebuild() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.called
        SELECT public.backfill_start('public.own', 'public.own', delay => '0', keep_old => false);
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER rebuild AFTER UPDATE ON t_1 FOR EACH ROW WHEN (NEW.k = 7) EXECUTE FUNCTION rebuild();
    ALTER TABLE t_1 ENABLE ALWAYS TRIGGER rebuild;
SQL
$publisher->safe_psql('postgres', "UPDATE t SET v = 'newest' WHERE k = 7");
await($subscriber, 'SELECT count(*) = 1 FROM called');
is(wait_job($subscriber, $subscriber->safe_psql('postgres', 'TABLE called')), 'done',
    'own job: one that a trigger starts in an apply worker is done');
is($subscriber->safe_psql('postgres', "SELECT v FROM t WHERE k = 7"), 'newest', 'own job: changes are applied');

# A table that is kept is published too, until it is purged.
$publisher->safe_psql('postgres', "SELECT backfill_cancel($paused)");
my $kept = start_job($publisher, "'t', $source, delay => '0', partitions => '{t_1}'");
is(wait_job($publisher, $kept), 'done', 'kept: a job is done');
my $refresh = 'ALTER SUBSCRIPTION s REFRESH PUBLICATION';
like((error_of($subscriber, $refresh))[1], qr/schema "backfill_${kept}_old" does not exist/,
    'kept: the schema of its old partition is not at the subscriber');
$publisher->safe_psql('postgres', "SELECT backfill_purge($kept)");
is((error_of($subscriber, $refresh))[0], 'none', 'kept: once that is purged the subscription can be refreshed');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');

#
# A row that came in another way
#
my ($copied) = $subscriber->safe_psql('postgres', <<"SQL") =~ /(\d+)$/;
    CREATE TEMP TABLE j AS SELECT * FROM backfill_job WHERE job = $own;
    UPDATE j SET job = 900, installation = gen_random_uuid(), state = 'running', tidied = false, rested_at = NULL, finished_at = NULL;
    INSERT INTO backfill_job SELECT * FROM j;
    CREATE TEMP TABLE c AS SELECT * FROM backfill_control WHERE job = $own;
    UPDATE c SET job = 900, state = 'pending';
    INSERT INTO backfill_control SELECT * FROM c;
    SELECT 900;
SQL
is($subscriber->safe_psql('postgres', "SELECT count(*) FROM backfill_status WHERE job = $copied"), '0', 'copied: it is not shown');
is($subscriber->safe_psql('postgres', "SELECT count(*) FROM backfill_progress WHERE job = $copied"), '0',
    'copied: nor are its partitions');
is($subscriber->safe_psql('postgres', 'SELECT backfill_resume()'), '0', 'copied: it is not resumed with the others');
for my $call ("backfill_resume($copied)", "backfill_retry($copied)", "backfill_cancel($copied)", "backfill_pause($copied)",
    "backfill_wait($copied)", "backfill_purge($copied)", "backfill_alter($copied, workers => 2)") {
    my ($sqlstate, $message) = error_of($subscriber, "SELECT $call");
    is($sqlstate, '55000', "copied: $call is refused");
    like($message, qr/backfill job $copied was started by another installation of the extension/, 'copied: with the reason');
}
$subscriber->restart;
$subscriber->poll_query_until('postgres',
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'partbackfill launcher' AND wait_event IS NOT NULL")
    or die 'no launcher';
is($subscriber->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'"),
    '0', 'copied: the launcher starts no worker for it');
is($subscriber->safe_psql('postgres', "SELECT state FROM backfill_job WHERE job = $copied"), 'running', 'copied: it is as it was');
$subscriber->safe_psql('postgres', 'DROP EXTENSION partbackfill');
pass('copied: it keeps nobody from dropping the extension');

$subscriber->stop;
$publisher->stop;
done_testing();
