# What others feel of a backfill in tables that are not the one that is rebuilt, and locks that are hard to get.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('other_tables');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE cat (c int PRIMARY KEY) PARTITION BY RANGE (c);
    CREATE TABLE cat_1 PARTITION OF cat FOR VALUES FROM (0) TO (5);
    CREATE TABLE cat_2 PARTITION OF cat FOR VALUES FROM (5) TO (10);
    INSERT INTO cat SELECT generate_series(0, 9);
    CREATE TABLE owner (o int PRIMARY KEY);
    INSERT INTO owner VALUES (1);
    CREATE TABLE t (k int PRIMARY KEY, c int REFERENCES cat, o int REFERENCES owner) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    INSERT INTO t SELECT k, k % 10, 1 FROM generate_series(0, 199) AS k;
    CREATE TABLE plain (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE plain_1 PARTITION OF plain FOR VALUES FROM (0) TO (100);
    INSERT INTO plain SELECT k, 'old' FROM generate_series(0, 99) AS k;

    -- The locks of a worker on tables of the schema public at the end of each command that it runs.
    CREATE TABLE locks_seen (relation text, mode text, validated boolean);
    CREATE FUNCTION see_locks() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'partbackfill worker') THEN
            INSERT INTO public.locks_seen
            SELECT relname, mode,
                   EXISTS (SELECT FROM pg_constraint AS k JOIN pg_event_trigger_ddl_commands() AS d ON d.objid = k.conrelid
                           WHERE k.contype = 'f' AND k.convalidated AND k.xmin = pg_current_xact_id()::xid AND d.schema_name LIKE 'backfill%')
            FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
            WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relnamespace = 'public'::regnamespace;
        END IF;
    END
    $$;
    CREATE EVENT TRIGGER see_locks ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION see_locks();
SQL

# Readers that are never all away at once, each with a short transaction.
sub start_readers {
    my ($statement) = @_;
    my $script = PostgreSQL::Test::Utils::tempdir() . '/read.sql';
    append_to_file($script, "BEGIN; $statement; SELECT pg_sleep(0.05); COMMIT;\n");
    my $readers = IPC::Run::start([ 'pgbench', '-n', '-c', '6', '-T', '600', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
        '>', '/dev/null', '2>', '/dev/null');
    await($node, q{SELECT count(*) > 3 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.05)%' AND pid <> pg_backend_pid()});
    return $readers;
}

for my $method (qw(storage attach)) {
    my $title = "$method: a foreign key is validated";
    $node->safe_psql('postgres', 'TRUNCATE locks_seen');
    my $job = start_job($node, qq{'t', 't', swap => '$method', delay => '0', partitions => '\{t_1\}', keep_old => false});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT mode, ' ') FROM locks_seen WHERE validated AND relation = 'owner' AND mode NOT IN ('AccessShareLock', 'RowShareLock')}),
        '', "$title: writers of the table that it refers to go on meanwhile");
    isnt($node->safe_psql('postgres', q{SELECT count(*) FROM locks_seen WHERE validated AND relation = 'owner'}), '0', "$title: that was seen");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM locks_seen WHERE relation IN ('owner', 'cat', 'cat_1', 'cat_2') AND mode = 'AccessExclusiveLock'}),
        '0', "$title: its readers go on all the while");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_constraint AS k WHERE contype = 'f' AND conrelid = 't_1'::regclass AND conparentid <> 0 AND convalidated}),
        $node->safe_psql('postgres', q{SELECT count(*) FROM pg_constraint AS k WHERE contype = 'f' AND conrelid = 't_2'::regclass AND conparentid <> 0 AND convalidated}),
        "$title: the partition has its own");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger AS t WHERE NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.oid = tgconstraint) AND tgconstraint <> 0}),
        '0', "$title: the shadow's leave no trigger behind");
    for my $table ('cat WHERE c = 3', 'cat WHERE c = 7', 'owner') {
        my ($sqlstate) = error_of($node, "DELETE FROM $table");
        is($sqlstate, '23503', "$title: it holds for $table");
    }
    check_clean($node, $title);
}
$node->safe_psql('postgres', 'DROP EVENT TRIGGER see_locks');
for my $method (qw(storage attach)) {
    my $title = "$method: a table that is referred to is read all the time";
    my $readers = start_readers('SELECT count(*) FROM cat');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM owner, cat');
    my $job = start_job($node, qq{'t', 't', swap => '$method', delay => '0', keep_old => false, swap_patience => '30 s'});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    $reader->query_safe('COMMIT');
    $reader->quit;
    $readers->kill_kill;
    check_clean($node, $title);
}
for my $method (qw(storage attach)) {
    my $title = "$method: a shadow that is dropped";
    my $job = start_job($node, qq{'t', 'SELECT k, c, 1 AS o FROM t UNION ALL SELECT 1, 1, 2', swap => '$method', delay => '0', partitions => '\{t_1\}', max_attempts => 1});
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM owner, cat');
    is(wait_job($node, $job), 'failed', "$title: the attempt fails");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    is(wait_job($node, $job), 'canceled', "$title: readers of what it refers to are not in the way");
    $reader->query_safe('COMMIT');
    $reader->quit;
    check_clean($node, $title);
}
for my $case ([ 'plain', 'attach' ], [ 'plain_1', 'attach' ], [ 'plain_1', 'storage' ]) {
    my ($table, $swap) = @$case;
    my $title = "$table is read all the time, $swap";
    my $readers = start_readers("SELECT count(*) FROM $table");
    my $job = start_job($node, qq{'plain', 'SELECT * FROM plain', swap => '$swap', delay => '0', keep_old => false, swap_patience => '30 s'});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    $readers->kill_kill;
    check_clean($node, $title);
}
{
    my $title = 'a written partition that a reader keeps from its swap';
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM plain_1');
    my $job = start_job($node, q{'plain', 'SELECT * FROM plain', delay => '0', keep_old => false});
    await_partition($node, $job, 1, 'swap_attempts >= 1');
    $node->safe_psql('postgres', q{INSERT INTO plain VALUES (1, 'w')});
    my $tries = $node->safe_psql('postgres', "SELECT swap_attempts FROM backfill_progress WHERE job = $job");
    await_partition($node, $job, 1, "swap_attempts >= $tries + 2");
    is($node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $job"), '0', "$title: is not built again meanwhile");
    $reader->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: the job is done once the reader has ended");
    is($node->safe_psql('postgres', "SELECT rebuilds FROM backfill_progress WHERE job = $job"), '1', "$title: and it is built again once");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM plain WHERE v = 'w'}), '1', "$title: no write is lost");
    $reader->quit;
    check_clean($node, $title);
}

{
    my $title = 'DDL that locks the tree from its root';
    $node->safe_psql('postgres', 'CREATE TABLE raw AS SELECT * FROM plain; CREATE TABLE plain_2 PARTITION OF plain FOR VALUES FROM (100) TO (200)');
    my $holder = session($node);
    close_gate($holder, 1);
    my $job = start_job($node, q{'plain', 'SELECT k, v FROM raw WHERE pass_gate(1)', delay => '0', keep_old => false});
    await_at_gate($node, 1);
    my $ddl = session($node);
    $ddl->query_safe('BEGIN; LOCK TABLE ONLY plain IN ACCESS EXCLUSIVE MODE');
    open_gate($holder, 1);
    await($node, q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'plain'::regclass AND mode = 'AccessShareLock' AND NOT granted)}
            . qq{ OR (SELECT waiting_on LIKE 'lock%' FROM backfill_progress WHERE job = $job AND ordinal = 2)});
    is($ddl->query_safe('LOCK TABLE plain_2 IN ACCESS EXCLUSIVE MODE; SELECT 1; COMMIT'), '1', "$title: is not canceled");
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT attempts::text, ' ') FROM backfill_progress WHERE job = $job"), '1',
        "$title: in the first attempt");
    $_->quit for $holder, $ddl;
    check_clean($node, $title);
}
{
    my $title = 'DDL that takes no lock';
    my $ddl = session($node);
    # It never had a trigger: the first one changes its row in pg_class, as GRANT does.
    $node->safe_psql('postgres', 'CREATE TABLE plain_3 PARTITION OF plain FOR VALUES FROM (200) TO (300)');
    $ddl->query_safe('BEGIN; GRANT SELECT ON plain_3 TO PUBLIC');
    my $job = start_job($node, q{'plain', 'SELECT * FROM plain', partitions => '{plain_3}', delay => '0', keep_old => false, lock_timeout => '2 s'});
    await_worker($node, $job, q{wait_event = 'transactionid'});
    $ddl->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', "SELECT attempts, error FROM backfill_progress WHERE job = $job"), '1|', "$title: in the first attempt");
    $ddl->quit;
    check_clean($node, $title);
}

$node->stop;
done_testing();
