# Others on the same server: sessions that hold what a swap needs, roles that have no business with a job, schemas and
# objects of theirs with names that look like ours.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('bystanders');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int NOT NULL, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    CREATE INDEX ON t (v);
    INSERT INTO t SELECT g, 'old' FROM generate_series(0, 9) AS g;
    CREATE ROLE mallory LOGIN;
    GRANT CREATE ON SCHEMA public TO mallory;
SQL

# What somebody has changed and not committed: a lock on an index, a row of a catalog. No reader of the table waits for
# him behind the swap.
for my $change ('COMMENT ON INDEX t_1_v_idx IS $$x$$', 'GRANT SELECT ON t_1 TO mallory') {
    my $other = session($node);
    $other->query_safe("BEGIN; $change");
    my $job = start_job($node, "'t', 'SELECT k, ''new''::text AS v FROM generate_series(0, 9) AS k', delay => '0', keep_old => false");
    # The trigger that watches for writes changes the same row of a catalog as GRANT.
    await_partition($node, $job, 1, "state IN ('pending', 'ready') AND swap_attempts >= 2");
    is($node->safe_psql('postgres', q{SET statement_timeout = '10 s'; SELECT count(*) FROM t}), '10',
        "readers pass while a partition is held up by: $change");
    is($node->safe_psql('postgres', q{SET statement_timeout = '10 s'; UPDATE t SET v = v; SELECT count(*) FROM t}), '10', 'writers too');
    is($node->safe_psql('postgres', "SELECT state IN ('pending', 'ready', 'running') FROM backfill_progress WHERE job = $job"), 't',
        'it is held up still');
    $other->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', 'and done once that is over');
    $other->quit;
    check_clean($node, $change);
}
is($node->safe_psql('postgres', q{SELECT has_table_privilege('mallory', 't_1', 'SELECT')}), 't',
    'what was granted meanwhile is not lost');

# Somebody who has the partition locked when its rows are in: they are not given up for him.
{
    my ($gate, $other) = (session($node), session($node));
    close_gate($gate, 1);
    my $job = start_job($node, q{'t', 'SELECT k, ''newer''::text AS v FROM generate_series(0, 9) AS k WHERE pass_gate(1)', delay => '0', keep_old => false, lock_timeout => '10 ms'});
    await_at_gate($node, 1);
    $other->query_safe('BEGIN; LOCK TABLE t_1 IN ACCESS EXCLUSIVE MODE');
    open_gate($gate, 1);
    # Between two tries it stands in no queue.
    await($node, "SELECT count(*) = 1 FROM backfill_progress AS p JOIN pg_stat_activity AS a ON a.pid = p.worker_pid"
            . " WHERE p.job = $job AND p.phase = 'validating' AND a.wait_event_type = 'Extension'");
    # He gets what he asks for next, and no deadlock with a worker that stands in a queue.
    is($other->query_safe('ALTER TABLE t_1 ALTER v SET STATISTICS -1; SELECT 1; ROLLBACK'), '1', 'a lock on the partition: who has it goes on');
    is(wait_job($node, $job), 'done', 'a lock on the partition: the job is done after it');
    is($node->safe_psql('postgres', "SELECT attempts + rebuilds FROM backfill_progress WHERE job = $job"), '1', 'a lock on the partition: with the rows of its first build');
    is($node->safe_psql('postgres', 'SELECT count(*), min(v) FROM t'), '10|newer', 'a lock on the partition: which are right');
    $_->quit for $gate, $other;
    check_clean($node, 'a lock on the partition');
}

# Somebody who changes the definition all the time: the partition is not built for ever.
{
    my $other = session($node);
    $other->query_until(qr/begun/, <<'SQL');
\echo begun
DO $$
BEGIN
    FOR i IN 1 .. 100000 LOOP
        EXECUTE format('COMMENT ON TABLE t_1 IS %L', i);
        COMMIT;
    END LOOP;
END
$$;
SQL
    my $job = start_job($node, q{'t', 't', delay => '0', keep_old => false});
    is(wait_job($node, $job), 'failed', 'a partition whose definition is changed during every build is given up');
    like($node->safe_psql('postgres', "SELECT rebuilds || ' ' || sqlstate || ' ' || error FROM backfill_progress WHERE job = $job"),
        qr/^10 55006 the definition of partition "public\.t_1" was changed during every build/, 'the reason');
    $node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO%'; SELECT backfill_cancel($job)");
    wait_job($node, $job);
    $other->quit;
    check_clean($node, 'given up');
}

# The number of a job may come again when the extension is installed anew. A worker of the old one, which a superuser
# started, does not take up the job of another role.
my $job = start_job($node, q{'t', 't', delay => '0'});
wait_job($node, $job);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE twice (k int) PARTITION BY RANGE (k);
    CREATE TABLE twice_1 PARTITION OF twice FOR VALUES FROM (0) TO (10);
    CREATE TABLE twice_2 PARTITION OF twice FOR VALUES FROM (10) TO (20);
SQL
$job = start_job($node, q{'twice', 'twice', delay => '1 hour'});
await_partition($node, $job, 1, "state = 'done'");
my $old_worker = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'});
$node->safe_psql('postgres', <<"SQL");
    SET client_min_messages = warning;
    -- A superuser who insists can do that under a job.
    ALTER EVENT TRIGGER backfill_refuse_drop DISABLE;
    DROP EXTENSION partbackfill CASCADE; -- with the triggers that watch partitions whose old rows are kept
    DROP SCHEMA backfill_${job}_new, backfill_${job}_old CASCADE;
    CREATE EXTENSION partbackfill;
    ALTER SEQUENCE backfill_job_job_seq RESTART WITH $job;
    SET SESSION AUTHORIZATION mallory;
    CREATE TABLE hers (k int, who text) PARTITION BY RANGE (k);
    CREATE TABLE hers_1 PARTITION OF hers FOR VALUES FROM (0) TO (10);
    CREATE TABLE hers_2 PARTITION OF hers FOR VALUES FROM (10) TO (20);
    CREATE TABLE hers_3 PARTITION OF hers FOR VALUES FROM (20) TO (30);
SQL
my $hers = $node->safe_psql('postgres', <<'SQL');
    SET SESSION AUTHORIZATION mallory;
    SELECT backfill_start('hers', $$SELECT k, session_user::text AS who FROM unnest('{1, 11, 21}'::int[]) AS k$$, delay => '1 hour');
SQL
is($hers, $job, 'the number has come again');
await_partition($node, $hers, 1, "state = 'done'");
# Wakes the old worker from its delay while partitions are still to be had.
$node->safe_psql('postgres', "SELECT pg_cancel_backend($old_worker)");
await($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $old_worker)");
is(states($node, $hers), 'done pending pending', 'the old worker has gone and took nothing up');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT who, ' ') FROM hers}), 'mallory', 'her own worker ran her query');
cancel_job($node, $hers);
is(wait_job($node, $hers), 'canceled', 'her job is hers to end');
$node->safe_psql('postgres', "SELECT backfill_purge($hers)");

# Constraints of strangers that are named like ours are left alone, and keep no job from ending.
$node->safe_psql('postgres', 'SET SESSION AUTHORIZATION mallory;'
        . join('', map { "CREATE TABLE squat_$_ (a int CONSTRAINT partbackfill_${_}_1 CHECK (a > 0));" } 1 .. 30));
$job = start_job($node, q{'t', 't', delay => '0', keep_old => false});
is(wait_job($node, $job), 'done', 'a stranger\'s constraint is in nobody\'s way');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_constraint WHERE conname LIKE 'partbackfill%'}), '30', 'and stays');

# A search_path in which pg_catalog is not first would let others decide what the bounds mean.
my ($sqlstate, $message) = error_of($node, q{SET search_path = public, pg_catalog; SELECT backfill_start('t', 't')});
is($sqlstate, '0A000', 'refused: a schema before pg_catalog');
like($message, qr/schema "public" is before pg_catalog/, 'the reason');

$node->stop;
done_testing();
