# docs/locking.md, held against pg_locks: the locks on users' tables that a worker has at each of its steps.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('locks');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE above (region text, k int, v text) PARTITION BY LIST (region);
    CREATE TABLE parent PARTITION OF above FOR VALUES IN ('north') PARTITION BY RANGE (k);
    CREATE INDEX ON above (k);
    CREATE TABLE live PARTITION OF parent FOR VALUES FROM (0) TO (100);
    CREATE TABLE sibling PARTITION OF parent FOR VALUES FROM (100) TO (200);
    CREATE TABLE other PARTITION OF parent DEFAULT;
    -- Large enough for a proof.
    INSERT INTO above SELECT 'north', k, repeat('x', 100) FROM generate_series(0, 20000) AS k;
    CREATE TABLE raw AS SELECT * FROM above WHERE k < 200;

    CREATE TABLE referred (r int PRIMARY KEY);
    INSERT INTO referred VALUES (1);
    CREATE TABLE tree (r int PRIMARY KEY) PARTITION BY RANGE (r);
    CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (10);
    INSERT INTO tree VALUES (1);
    CREATE TABLE keys_above (k int, r int REFERENCES referred, v text) PARTITION BY RANGE (k);
    CREATE INDEX ON keys_above (k);
    CREATE TABLE keys_live PARTITION OF keys_above FOR VALUES FROM (0) TO (100);
    CREATE TABLE keys_sibling PARTITION OF keys_above FOR VALUES FROM (100) TO (200);
    INSERT INTO keys_above SELECT k, 1, 'x' FROM generate_series(0, 199) AS k;
    ALTER TABLE keys_above ADD FOREIGN KEY (r) REFERENCES tree;
    CREATE TABLE keys_raw AS TABLE keys_above;

    CREATE TABLE hot (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE hot_live PARTITION OF hot FOR VALUES FROM (0) TO (100);
    CREATE TABLE hot_sibling PARTITION OF hot FOR VALUES FROM (100) TO (200);
    CREATE TABLE hot_raw AS SELECT k, 'x' AS v FROM generate_series(0, 199) AS k;
SQL

# The strongest lock that the worker has on each table of the schema public.
sub locks_of {
    my ($pid) = @_;
    return $node->safe_psql('postgres', <<"SQL");
        WITH mode (name, strength) AS (
            VALUES ('AccessShareLock', 1), ('RowShareLock', 2), ('RowExclusiveLock', 3), ('ShareUpdateExclusiveLock', 4),
                   ('ShareLock', 5), ('ShareRowExclusiveLock', 6), ('ExclusiveLock', 7), ('AccessExclusiveLock', 8)
        ), held AS (
            SELECT c.relname, (array_agg(mode.name ORDER BY mode.strength DESC))[1] AS mode
            FROM pg_locks AS l
            JOIN pg_class AS c ON c.oid = l.relation
            JOIN mode ON mode.name = l.mode
            WHERE l.pid = $pid AND l.granted AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
              AND c.relname NOT LIKE 'backfill%'
            GROUP BY c.relname
        )
        SELECT string_agg(format('%s %s', relname, mode), ', ' ORDER BY relname) FROM held
SQL
}

sub release {
    my ($title, $job) = @_;
    $node->safe_psql('postgres', q{LOAD 'partbackfill'; ALTER SYSTEM RESET partbackfill.injection_point; SELECT pg_reload_conf()});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    return;
}

sub stop_at {
    my ($step) = @_;
    $node->safe_psql('postgres',
        "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = '$step stop'; SELECT pg_reload_conf()");
    return;
}

# A job with those arguments has these locks when its worker stands at that injection point. The write is made while the
# partition is built.
sub check_step {
    my ($arguments, $step, $locks, $write) = @_;
    my $title = "$arguments, at $step";
    stop_at($write ? 'built' : $step);
    my $job = start_job($node, "$arguments, delay => '0', keep_old => false");
    if ($write) {
        await_worker($node, $job, "query LIKE '%injection point built'");
        $node->safe_psql('postgres', $write);
        stop_at($step);
    }
    my $pid = await_worker($node, $job, "query LIKE '%injection point $step'");
    is(locks_of($pid), $locks, $title);
    release($title, $job);
    return;
}

my $attach = q{'above', 'raw', partitions => '{live}', swap => 'attach'};
check_step($attach, 'captured', 'live ShareRowExclusiveLock');
check_step($attach, 'created', 'above AccessShareLock, live AccessShareLock, parent AccessShareLock');
check_step($attach, 'loading', 'raw AccessShareLock');
check_step($attach, 'indexing', 'raw AccessShareLock');
check_step($attach, 'analyzing', 'live AccessShareLock, raw AccessShareLock');
check_step($attach, 'validating', 'other AccessExclusiveLock, parent AccessShareLock');
check_step($attach, 'swapping',
    'above AccessShareLock, live AccessExclusiveLock, other AccessExclusiveLock, parent AccessExclusiveLock');
check_step($attach, 'tidying', '');
check_step("$attach, on_write => 'block'", 'loading',
    'above AccessShareLock, live ExclusiveLock, parent ExclusiveLock, raw AccessShareLock');

my $storage = q{'keys_above', 'keys_raw', partitions => '{keys_live}', swap => 'storage'};
check_step($storage, 'captured', 'keys_live ShareRowExclusiveLock');
check_step($storage, 'created', 'keys_above AccessShareLock, keys_live AccessShareLock');
check_step($storage, 'loading', 'keys_raw AccessShareLock');
check_step($storage, 'indexing', 'keys_raw AccessShareLock');
check_step($storage, 'analyzing', 'keys_live AccessShareLock, keys_raw AccessShareLock');
check_step($storage, 'validating', 'referred ShareRowExclusiveLock');
my $referred = 'referred ShareRowExclusiveLock, tree ShareRowExclusiveLock, tree_1 ShareRowExclusiveLock';
check_step($storage, 'swapping', "keys_live AccessExclusiveLock, $referred");
check_step($storage, 'tidying', '');
check_step("$storage, on_write => 'block'", 'loading', 'keys_live ExclusiveLock, keys_raw AccessShareLock');

my $attach_keys = q{'keys_above', 'keys_raw', partitions => '{keys_live}', swap => 'attach'};
check_step($attach_keys, 'analyzing', 'keys_live AccessShareLock, keys_raw AccessShareLock');
check_step($attach_keys, 'validating', 'referred ShareRowExclusiveLock');
check_step($attach_keys, 'swapping', "keys_above AccessExclusiveLock, keys_live AccessExclusiveLock, $referred");
check_step($attach_keys, 'tidying', '');
check_step("$attach_keys, on_write => 'block'", 'loading',
    'keys_above ExclusiveLock, keys_live ExclusiveLock, keys_raw AccessShareLock');
check_step("$attach_keys, on_write => 'block'", 'swapping',
    "keys_above AccessExclusiveLock, keys_live AccessExclusiveLock, keys_raw AccessShareLock, $referred");

# The parent's readers pass at each of these.
for my $case ([ 'attach', 'hot ExclusiveLock, hot_live ExclusiveLock' ], [ 'storage', 'hot_live ExclusiveLock' ]) {
    my ($method, $without_writers) = @$case;
    my $hot = "'hot', 'hot_raw', partitions => '{hot_live}', swap => '$method', on_write => 'catch_up'";
    my $write = 'UPDATE hot SET v = v WHERE k = 1';
    check_step($hot, 'captured', 'hot_live ShareRowExclusiveLock');
    check_step($hot, 'catching_up', 'hot_raw AccessShareLock', $write);
    check_step($hot, 'converged', '', $write);
    check_step($hot, 'caught_up', $without_writers);
}

done_testing();
