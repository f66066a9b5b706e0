# Partitions that are swapped together: readers see the whole history change at one instant, or none of it, and a job that
# waits for backfill_publish() loses no write, no definition and no work while it waits.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('publication', settings => [ 'restart_after_crash = on', 'max_prepared_transactions = 2' ]);
my $partitions = 12;
my $keys = 50;

$node->safe_psql('postgres', <<"SQL");
    CREATE TABLE fault (k int);
    -- Raises when a partition is new and another one is not.
    CREATE FUNCTION read_all() RETURNS void LANGUAGE plpgsql AS \$\$
    DECLARE
        versions text;
    BEGIN
        SELECT string_agg(DISTINCT v, ', ') INTO versions FROM t;
        IF versions LIKE '%,%' THEN
            RAISE EXCEPTION 'a mix: %', versions;
        END IF;
    END
    \$\$;
    CREATE FUNCTION read_twice() RETURNS void LANGUAGE plpgsql AS \$\$
    DECLARE
        first text;
        second text;
    BEGIN
        SELECT string_agg(DISTINCT v, ', ') INTO first FROM t WHERE k < $keys;
        PERFORM pg_sleep(0.003);
        SELECT string_agg(DISTINCT v, ', ') INTO second FROM t WHERE k >= $keys;
        IF first <> second THEN
            RAISE EXCEPTION 'a mix: %, then %', first, second;
        END IF;
    END
    \$\$;
SQL

# Partitions of $keys rows each, a DEFAULT beside them, all rows 'old'.
sub make_table {
    $node->safe_psql('postgres', <<"SQL");
        DROP TABLE IF EXISTS t;
        DROP TABLE IF EXISTS raw;
        CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL, n int NOT NULL DEFAULT 0) PARTITION BY RANGE (k);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, (i - 1) * $keys, i * $keys) FROM generate_series(1, $partitions) AS i
        \\gexec
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, ($partitions + 2) * $keys - 1) AS k;
        CREATE TABLE raw (k int PRIMARY KEY, n int NOT NULL DEFAULT 0);
        INSERT INTO raw SELECT k FROM t;
SQL
    return;
}

# Starts a job that makes the rows $version, and whose source fails for keys in table fault.
sub start {
    my ($version, $arguments) = @_;
    return start_job($node, "'t', \$\$SELECT k, '$version'::text AS v, n + 0 * (SELECT count(1 / (f.k - r.k)) FROM fault AS f WHERE f.k = r.k)::int AS n"
            . " FROM raw AS r\$\$, delay => '0', $arguments");
}

sub versions {
    return $node->safe_psql('postgres', q{SELECT string_agg(v || ' ' || n, ', ' ORDER BY v) FROM (SELECT v, count(*) AS n FROM t GROUP BY v) AS c});
}
my $all = ($partitions + 2) * $keys;

sub publish {
    my ($job) = @_;
    return $node->safe_psql('postgres', "SELECT backfill_publish($job)");
}

sub state_of {
    my ($job) = @_;
    return $node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job");
}

for my $method (qw(attach storage)) {
    for my $on_write (qw(rebuild catch_up)) {
        my $title = "$method, $on_write";
        make_table();

        # Together, beside readers of both kinds.
        append_to_file("$PostgreSQL::Test::Utils::tmp_check/read_all.sql", "SELECT read_all();\n");
        append_to_file("$PostgreSQL::Test::Utils::tmp_check/read_twice.sql", "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT read_twice();\nCOMMIT;\n");
        my $readers = start_clients($node, 3, map { ('-f', "$PostgreSQL::Test::Utils::tmp_check/$_.sql") } qw(read_all read_twice));
        for my $version (1 .. 3) {
            my $job = start("v$version", "publish => 'together', swap => '$method', on_write => '$on_write', keep_old => false, workers => 2");
            is(wait_job($node, $job), 'done', "$title: together: done");
            is(versions(), "v$version $all", "$title: together: all rows are new");
        }
        my $complaints = stop_clients($readers);
        unlike($complaints, qr/ERROR/, "$title: together: no reader has seen a mix");
        check_clean($node, "$title: together");

        # By hand.
        my $job = start('by hand', "publish => 'manual', swap => '$method', on_write => '$on_write', keep_old => false, label => 'label'");
        is(wait_job($node, $job), 'ready', "$title: manual: ready");
        is(versions(), "v3 $all", "$title: manual: nothing is swapped");
        is(states($node, $job), join(' ', ('ready') x ($partitions + 1)), "$title: manual: each partition is ready");
        is(start('again', "label => 'label'"), $job, "$title: manual: the label is that of an unfinished job");
        my ($code, $message) = error_of($node, "SELECT backfill_start('t', 't', partitions => '{t_1}')");
        is($code, '55006', "$title: manual: another job on its partitions is refused");
        like($message, qr/which is ready\..*backfill_publish\($job\)/s, "$title: manual: with the way out");
        is($node->safe_psql('postgres', "SELECT backfill_pause($job), backfill_resume($job), backfill_retry($job), backfill_forget($job)"), 'f|0|0|f',
            "$title: manual: it rests");

        # Writes of these days.
        $node->safe_psql('postgres', "UPDATE raw SET n = 7 WHERE k = 1; UPDATE t SET n = 7 WHERE k = 1; DELETE FROM t WHERE k = 2; DELETE FROM raw WHERE k = 2;"
                . "INSERT INTO raw VALUES (100000, 8); INSERT INTO t VALUES (100000, 'written', 8)");
        # And a change of a definition.
        $node->safe_psql('postgres', 'CREATE INDEX ON t_3 (n)');
        $node->stop('immediate');
        $node->start;
        is(state_of($job), 'ready', "$title: manual: ready after a restart");
        is(publish($job), $partitions + 1, "$title: manual: published");
        is(state_of($job), 'done', "$title: manual: and done");
        is(versions(), "by hand $all", "$title: manual: all rows are new");
        same_rows($node, '(SELECT k, n FROM t) AS t', 'SELECT k, n FROM raw', "$title: manual: no write is lost");
        is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE indrelid = 't_3'::regclass}), '2', "$title: manual: nor the index");
        my $rebuilds = $node->safe_psql('postgres', "SELECT string_agg(split_part(partition, '.', 2) || ' ' || rebuilds, ', ' ORDER BY ordinal) FROM backfill_progress WHERE job = $job AND rebuilds > 0");
        is($rebuilds, $on_write eq 'rebuild' ? 't_1 1, t_3 1, t_rest 1' : 't_3 1', "$title: manual: what was changed is built again")
            or diag(slurp_file($node->logfile));
        check_clean($node, "$title: manual");
        ($code, $message) = error_of($node, "SELECT backfill_publish($job)");
        is($code, '55000', "$title: manual: it cannot be published twice");
        like($message, qr/not ready to be published.*state is "done"/s, "$title: manual: with its state");

        # Canceled.
        $job = start('canceled', "publish => 'manual', swap => '$method', on_write => '$on_write'");
        is(wait_job($node, $job), 'ready', "$title: cancel: ready");
        is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$title: cancel");
        is(wait_job($node, $job), 'canceled', "$title: cancel: canceled");
        check_clean($node, "$title: cancel");

        # A partition that fails keeps all others from being swapped.
        $node->safe_psql('postgres', 'INSERT INTO fault VALUES (60)');
        $job = start('retried', "publish => 'together', swap => '$method', on_write => '$on_write', keep_old => false, max_attempts => 1");
        is(wait_job($node, $job), 'failed', "$title: a failed partition: failed");
        is(versions(), "by hand $all", "$title: a failed partition: nothing is swapped");
        is($node->safe_psql('postgres', "SELECT partitions, ready, failed, done FROM backfill_status WHERE job = $job"),
            ($partitions + 1) . "|$partitions|1|0", "$title: a failed partition: the others are ready");
        ($code, $message) = error_of($node, "SELECT backfill_start('t', 't', partitions => '{t_1}')");
        is($code, '55006', "$title: a failed partition: another job on those that are ready is refused");
        $node->safe_psql('postgres', 'TRUNCATE fault');
        is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '1', "$title: a failed partition: retried");
        is(wait_job($node, $job), 'done', "$title: a failed partition: done");
        is(versions(), "retried $all", "$title: a failed partition: all are new");
        check_clean($node, "$title: a failed partition");

        # A reader that stays in the way, for longer than swap_patience.
        my $reader = session($node);
        $job = start('patient', "publish => 'manual', swap => '$method', on_write => '$on_write', keep_old => false, swap_patience => '1 s'");
        is(wait_job($node, $job), 'ready', "$title: a reader: ready");
        $reader->query_safe('BEGIN; SELECT count(*) FROM t_5');
        ($code, $message) = error_of($node, "SELECT backfill_publish($job)");
        is($code, '55000', "$title: a reader: not published");
        like($message, qr/could not publish.*could not lock partition "public.t_5"/s, "$title: a reader: the error says why");
        is(versions(), "retried $all", "$title: a reader: nothing is swapped");
        is(state_of($job), 'failed', "$title: a reader: the job has failed");
        $reader->query_safe('COMMIT');
        is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '1', "$title: a reader: retried");
        is(wait_job($node, $job), 'ready', "$title: a reader: ready again, and not published by itself");
        is($node->safe_psql('postgres', "SELECT DISTINCT attempts FROM backfill_progress WHERE job = $job"), '1', "$title: a reader: nothing was built again");
        is(publish($job), $partitions + 1, "$title: a reader: published");
        is(versions(), "patient $all", "$title: a reader: all are new");
        $reader->quit;

        # A worker that dies while some are exchanged and nothing is committed.
        $job = start('kill', "publish => 'manual', swap => '$method', on_write => '$on_write', keep_old => false");
        is(wait_job($node, $job), 'ready', "$title: kill: ready");
        set_point($node, 'recheck/4 stop');
        my $publisher = session($node);
        $publisher->query_until(qr/begun/, "\\echo begun\nSELECT backfill_publish($job);\n");
        my $pid = await_point($node, $job, 'recheck');
        is(versions(), "patient $all", "$title: kill: a reader sees the old rows");
        kill_worker($node, $pid);
        clear_point($node);
        eval { $publisher->quit }; # it was killed, too
        is(wait_job($node, $job), 'done', "$title: kill: done");
        is(versions(), "kill $all", "$title: kill: all are new");
        check_clean($node, "$title: kill");

        # A pause while a reader is in the way.
        $job = start('pause', "publish => 'manual', swap => '$method', on_write => '$on_write', keep_old => false");
        is(wait_job($node, $job), 'ready', "$title: pause: ready");
        $reader = session($node);
        $reader->query_safe('BEGIN; SELECT count(*) FROM t_5');
        $publisher = session($node);
        $publisher->query_until(qr/begun/, "\\echo begun\nSELECT backfill_publish($job);\n");
        await_partition($node, $job, 5, "waiting_on LIKE 'lock (held by%'");
        is($node->safe_psql('postgres', "SELECT backfill_pause($job)"), 't', "$title: pause: paused");
        is(wait_job($node, $job), 'paused', "$title: pause: it rests");
        $reader->quit;
        $publisher->quit;
        like($publisher->{stderr}, qr/could not publish.*state is "paused"/s, "$title: pause: who published it is told");
        is(versions(), "kill $all", "$title: pause: nothing is swapped");
        is($node->safe_psql('postgres', "SELECT backfill_resume($job)"), '1', "$title: pause: resumed");
        is(wait_job($node, $job), 'done', "$title: pause: done");
        is(versions(), "pause $all", "$title: pause: all are new");
        check_clean($node, "$title: pause");
    }
}

# What is refused.
make_table();
for my $publish (qw(together manual)) {
    my ($code, $message) = error_of($node, "SELECT backfill_start('t', 't', publish => '$publish', on_write => 'block')");
    is($code, '0A000', "$publish: writers are not kept out of all partitions");
}
{
    my ($code, $message) = error_of($node, "SELECT backfill_start('t', 't', publish => 'sometimes')");
    is($code, '22023', 'no such value');
    like($message, qr/Valid values are "each", "together" and "manual"/, 'the error has those that there are');
    ($code, $message) = error_of($node, 'SELECT backfill_publish(100000)');
    is($code, '42704', 'no such job');
    my $job = start('each', "publish => 'each'");
    wait_job($node, $job);
    ($code, $message) = error_of($node, "SELECT backfill_publish($job)");
    is($code, '55000', 'a job that was not started so');
    like($message, qr/publish => 'manual'/, 'the hint says so');
    $node->safe_psql('postgres', "SELECT backfill_purge($job)");

    $job = start('refused', "publish => 'manual', keep_old => false");
    wait_job($node, $job);
    for my $use ('SELECT count(*) FROM t', 'SELECT count(*) FROM t_2', "SELECT count(*) FROM backfill_${job}_new.t_1", 'LOCK TABLE t IN ROW SHARE MODE') {
        ($code, $message) = error_of($node, "BEGIN; $use; SELECT backfill_publish($job)");
        is($code, '25001', "in a transaction that its worker would wait for: $use");
    }
    ($code, $message) = error_of($node, "BEGIN; SELECT backfill_alter($job, delay => '2 s'); SELECT backfill_publish($job)");
    is($code, '25001', 'in a transaction that has changed the job');
    is($node->safe_psql('postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM raw; SELECT backfill_publish($job); ROLLBACK"),
        "$all\n" . ($partitions + 1), 'above READ COMMITTED');
    is(versions(), "refused $all", 'whatever becomes of the transaction');
    check_clean($node, 'refused');
}

# A partition that would lose most of its rows is not published by a retry alone.
{
    my $job = start_job($node, "'t', 'SELECT k, ''short''::text AS v, n FROM raw WHERE k > 40 OR k = 0', publish => 'together', keep_old => false, delay => '0'");
    is(wait_job($node, $job), 'failed', 'shrunk: failed');
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '1', 'shrunk: retried');
    is(wait_job($node, $job), 'failed', 'shrunk: failed again');
    is(versions(), "refused $all", 'shrunk: nothing is swapped');
    $node->safe_psql('postgres', "SELECT backfill_alter($job, allow_shrink => true), backfill_retry($job)");
    is(wait_job($node, $job), 'done', 'shrunk: with allow_shrink it is done');
    is(versions(), 'short ' . ($all - 40), 'shrunk: all rows are new');
    check_clean($node, 'shrunk');
}

# Partitions at two levels, each beside a large DEFAULT that has to be proved to hold none of their rows, all in the job.
for my $method (qw(attach storage)) {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS tree;
        CREATE TABLE tree (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
        CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (20000) PARTITION BY RANGE (k);
        CREATE TABLE tree_1_1 PARTITION OF tree_1 FOR VALUES FROM (0) TO (100);
        CREATE TABLE tree_1_2 PARTITION OF tree_1 FOR VALUES FROM (100) TO (200);
        CREATE TABLE tree_1_rest PARTITION OF tree_1 DEFAULT;
        CREATE TABLE tree_2 PARTITION OF tree FOR VALUES FROM (20000) TO (20100);
        CREATE TABLE tree_rest PARTITION OF tree DEFAULT;
        INSERT INTO tree SELECT k, repeat('x', 100) FROM generate_series(0, 29999) AS k;
SQL
    my $before = $node->safe_psql('postgres', q{SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conrelid::regclass::text, conname) FROM pg_constraint WHERE conrelid::regclass::text LIKE 'tree%'});
    for my $publish (qw(together manual)) {
        my $job = start_job($node, "'tree', 'SELECT k, ''$publish'' AS v FROM tree', publish => '$publish', swap => '$method', keep_old => false, workers => 3, delay => '0'");
        is(wait_job($node, $job), $publish eq 'manual' ? 'ready' : 'done', "$method, a tree: built");
        is(publish($job), 5, "$method, a tree: published") if $publish eq 'manual';
        is($node->safe_psql('postgres', 'SELECT v, count(*) FROM tree GROUP BY v'), "$publish|30000", "$method, a tree: all rows are new");
        is($node->safe_psql('postgres', "SELECT DISTINCT attempts FROM backfill_progress WHERE job = $job"), '1', "$method, a tree: nothing was built twice");
        check_clean($node, "$method, a tree");
    }
    is($node->safe_psql('postgres', q{SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conrelid::regclass::text, conname) FROM pg_constraint WHERE conrelid::regclass::text LIKE 'tree%'}),
        $before, "$method, a tree: no constraint was lost or added");
}

# Others may not publish, and members may.
{
    $node->safe_psql('postgres', <<'SQL');
        CREATE ROLE boss LOGIN;
        CREATE ROLE member LOGIN IN ROLE boss;
        CREATE ROLE other LOGIN;
        GRANT ALL ON SCHEMA public TO boss;
        ALTER TABLE t OWNER TO boss;
        SELECT format('ALTER TABLE %s OWNER TO boss', c.oid::regclass) FROM pg_class AS c WHERE c.relname ~ '^t_(\d+|rest)$'
        \gexec
        GRANT SELECT ON raw, fault TO boss;
SQL
    my $job = start_job($node, "'t', 'SELECT k, ''of boss'' AS v, n FROM raw', publish => 'manual', keep_old => false, delay => '0'", 'SET SESSION AUTHORIZATION boss');
    is(wait_job($node, $job), 'ready', 'of boss: ready');
    is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION boss; SELECT backfill_purge($job)"), '0', 'of boss: nothing to purge, and the schemas stay');
    my ($code) = error_of($node, "SET SESSION AUTHORIZATION other; SELECT backfill_publish($job)");
    is($code, '42501', 'another role may not publish');
    is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION member; SELECT backfill_publish($job)"), $partitions + 1, 'a member may');
    is(versions(), "of boss $all", 'all rows are new');
    is($node->safe_psql('postgres', "SELECT max(attempts) FROM backfill_progress WHERE job = $job"), '1', 'of boss: nothing was built again');
}

# The lock table has to hold the locks.
{
    my $wide = 120;
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE wide (k int PRIMARY KEY, v text) PARTITION BY LIST (k);
        SELECT format('CREATE TABLE wide_%s PARTITION OF wide FOR VALUES IN (%s)', i, i) FROM generate_series(1, $wide) AS i
        \\gexec
        INSERT INTO wide SELECT i, 'old' FROM generate_series(1, $wide) AS i;
SQL
    my $needed = $wide * (4 + 2 * (1 + 2 + 1)); # with a TOAST table and an index
    $node->append_conf('postgresql.conf', "max_locks_per_transaction = 10\nmax_connections = 20\n");
    $node->restart;
    my ($code, $message) = error_of($node, "SELECT backfill_start('wide', 'wide', publish => 'together')");
    is($code, '53400', 'too many locks are refused');
    like($message, qr/cannot swap $wide partitions in one transaction.*about $needed locks.*increase max_locks_per_transaction by a factor of \d+\.\d/s, 'with the figures');
    $node->append_conf('postgresql.conf', "max_locks_per_transaction = 64\n");
    $node->restart;
    for my $method (qw(attach storage)) {
        my $job = start_job($node, "'wide', 'SELECT k, ''$method'' AS v FROM wide', publish => 'manual', swap => '$method', delay => '0', keep_old => false");
        is(wait_job($node, $job), 'ready', "$method: many partitions: ready");
        set_point($node, 'swapping stop');
        my $publisher = session($node);
        $publisher->query_until(qr/begun/, "\\echo begun\nSELECT backfill_publish($job);\n");
        my $pid = await_point($node, $job, 'swapping');
        # An object that is locked in several modes has one place in the lock table.
        cmp_ok($node->safe_psql('postgres', "SELECT count(DISTINCT concat_ws(' ', locktype, relation, classid, objid, objsubid)) FROM pg_locks WHERE pid = $pid"), '<=', $needed, "$method: many partitions: no more locks than were counted");
        clear_point($node);
        is(wait_job($node, $job), 'done', "$method: many partitions: done");
        $publisher->quit;
        is($node->safe_psql('postgres', 'SELECT DISTINCT v FROM wide'), $method, "$method: many partitions: all are new");
        like(slurp_file($node->logfile), qr/backfill job $job published $wide partitions in one transaction: held their locks for/, "$method: many partitions: the log says for how long");
    }
}

$node->stop;
done_testing();
