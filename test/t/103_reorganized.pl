# What PostgreSQL 19 brought, beside a job on the same tables: REPACK (CONCURRENTLY), publications that leave a table out, and
# MERGE PARTITIONS and SPLIT PARTITION where the server knows them.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

# A worker stands in a queue for half of deadlock_timeout at most.
my $node = new_node('reorganized', allows_streaming => 'logical', settings => ['deadlock_timeout = 120s']);
if ($node->pg_version->major < 19) {
    $node->stop;
    plan skip_all => 'needs PostgreSQL 19';
}

# The wide column is stored out of line: REPACK (CONCURRENTLY) gives a table another TOAST table.
sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t CASCADE;
        CREATE TABLE t (k int PRIMARY KEY, v int, wide text STORAGE EXTERNAL) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300);
        CREATE TABLE t_4 PARTITION OF t FOR VALUES FROM (300) TO (400);
        CREATE INDEX ON t (v);
        INSERT INTO t SELECT k, k, repeat('x', 3000) || k FROM generate_series(0, 399) AS k;
        ANALYZE t;
SQL
    return;
}
my $before = q{SELECT k, k, repeat('x', 3000) || k FROM generate_series(0, 399) AS k};
my $written = q{SELECT k, CASE WHEN k % 10 = 0 AND k < 100 THEN -k ELSE k END, repeat('x', 3000) || k FROM generate_series(0, 399) AS k};
my $write = 'UPDATE t SET v = -v WHERE k % 10 = 0 AND k < 100';

# start_repack('t_1', 'waits in this way'): in a session of its own, once it waits.
sub start_repack {
    my ($table, $waits) = @_;
    my $session = session($node);
    $session->query_until(qr/begun/, "\\echo begun\nREPACK (CONCURRENTLY) $table;\n");
    await($node, "SELECT count(*) > 0 FROM pg_stat_activity AS a WHERE backend_type IN ('client backend', 'REPACK decoding worker')"
            . " AND (query ~ '^REPACK' OR backend_type ~ '^REPACK') AND ($waits)");
    return $session;
}

sub end_repack {
    my ($session, $title) = @_;
    await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE query ~ '^REPACK' AND state = 'active'");
    is($session->query('SELECT 1'), '1', "$title: REPACK has ended");
    unlike($session->{stderr}, qr/ERROR/, "$title: well");
    $session->quit;
    return;
}

make_table();
my $merges = (error_of($node, 'BEGIN; ALTER TABLE t MERGE PARTITIONS (t_3, t_4) INTO t_3; ROLLBACK'))[0] eq 'none';
note('ALTER TABLE ... MERGE PARTITIONS is not known here') if !$merges;

for my $method (qw(attach storage)) {
    for my $on_write (qw(rebuild catch_up)) {
        my $options = "swap => '$method', on_write => '$on_write', delay => '0', keep_old => false, partitions => '{t_1}'";

        # It waits for all transactions that have begun, the build's too. The swap waits for its lock.
        {
            my $title = "$method, $on_write: REPACK during a build";
            make_table();
            set_point($node, 'loading stop');
            my $job = start_job($node, "'t', 't', $options");
            await_point($node, $job, 'loading');
            my $repack = start_repack('t_1', "wait_event_type = 'Lock'");
            $node->safe_psql('postgres', $write);
            clear_point($node);
            is(wait_job($node, $job), 'done', "$title: the job is done");
            end_repack($repack, $title);
            same_rows($node, 't', $written, "$title: the rows");
            check_clean($node, $title);
        }

        # The partition has other files than when it was built, and the same rows.
        {
            my $title = "$method, $on_write: REPACK between a build and its swap";
            make_table();
            set_point($node, 'ready stop');
            my $job = start_job($node, "'t', 't', $options");
            await_point($node, $job, 'ready');
            $node->safe_psql('postgres', $write) if $on_write eq 'catch_up';
            $node->safe_psql('postgres', 'REPACK (CONCURRENTLY) t_1');
            clear_point($node);
            is(wait_job($node, $job), 'done', "$title: the job is done");
            is(figures($node, $job), 'done 1 0', "$title: nothing was built again");
            same_rows($node, 't', $on_write eq 'catch_up' ? $written : $before, "$title: the rows");
            check_clean($node, $title);
        }
    }

    # Its last step, for which a pass waits with a snapshot that does not see the rows that it has written anew.
    {
        my $title = "$method: REPACK of a source that ends while a pass waits for it";
        make_table();
        $node->safe_psql('postgres', <<'SQL');
            CREATE TABLE staged (LIKE t, PRIMARY KEY (k)) PARTITION BY RANGE (k);
            CREATE TABLE staged_1 PARTITION OF staged FOR VALUES FROM (0) TO (100);
            INSERT INTO staged SELECT * FROM t WHERE k < 100;
            ANALYZE staged;
SQL
        set_point($node, 'ready stop');
        my $job = start_job($node,
            "'t', 'staged', swap => '$method', on_write => 'catch_up', lock_timeout => '60 s', keep_old => false, partitions => '{t_1}'");
        await_point($node, $job, 'ready');
        $node->safe_psql('postgres', "$write; UPDATE staged SET v = -v WHERE k % 10 = 0");
        my $reader = session($node);
        $reader->query_safe('BEGIN; SELECT count(*) FROM staged_1');
        my $waits = "l.relation = 'staged_1'::regclass AND NOT l.granted";
        my $repack = start_repack('staged_1', "EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND $waits)");
        clear_point($node);
        await($node, 'SELECT count(*) > 0 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)'
                . " WHERE $waits AND a.backend_type = 'partbackfill worker'");
        $reader->query_safe('COMMIT');
        is(wait_job($node, $job), 'done', "$title: the job is done");
        end_repack($repack, $title);
        same_rows($node, 't', $written, "$title: the rows");
        $reader->quit;
        check_clean($node, $title);
        $node->safe_psql('postgres', 'DROP TABLE staged');
    }

    # A partition of a table that a publication leaves out is left out before the swap and after it.
    {
        my $title = "$method: a publication of all tables but one";
        make_table();
        $node->safe_psql('postgres', 'CREATE TABLE other (k int); CREATE PUBLICATION most FOR ALL TABLES EXCEPT (TABLE t)');
        $node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('most', 'pgoutput')});
        set_point($node, 'ready stop');
        my $job = start_job($node, "'t', 't', swap => '$method', on_write => 'catch_up', keep_old => false, partitions => '{t_1}'");
        await_point($node, $job, 'ready');
        $node->safe_psql('postgres', $write);
        clear_point($node);
        is(wait_job($node, $job), 'done', "$title: the job is done");
        $node->safe_psql('postgres', 'UPDATE t SET v = v WHERE k < 10; INSERT INTO other VALUES (1)');
        same_rows($node, 't', $written, "$title: the rows");
        my $sent = q{FROM pg_logical_slot_peek_binary_changes('most', NULL, NULL, 'proto_version', '1', 'publication_names', 'most')};
        is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE position('other'::bytea IN data) > 0), count(*) FILTER (WHERE position('t_1'::bytea IN data) > 0) $sent"),
            '1|0', "$title: nothing of it is sent");
        $node->safe_psql('postgres', q{DROP PUBLICATION most; SELECT pg_drop_replication_slot('most'); DROP TABLE other});
        check_clean($node, $title);
    }

    # Partitions that are not there any more are skipped, whatever the names of those in their place.
    if ($merges) {
        my $title = "$method: MERGE and SPLIT";
        make_table();
        set_point($node, 'ready/2 stop');
        my $job = start_job($node, "'t', 'SELECT k, v, wide FROM t', swap => '$method', delay => '0', keep_old => false");
        await_point($node, $job, 'ready');
        $node->safe_psql('postgres', <<'SQL');
            ALTER TABLE t MERGE PARTITIONS (t_3, t_4) INTO t_3;
            ALTER TABLE t SPLIT PARTITION t_2 INTO (PARTITION t_2 FOR VALUES FROM (100) TO (150), PARTITION t_2b FOR VALUES FROM (150) TO (200));
SQL
        clear_point($node);
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is(states($node, $job), 'done skipped skipped skipped', "$title: partitions that are gone are skipped");
        same_rows($node, 't', $before, "$title: the rows");
        check_clean($node, $title);
        $job = start_job($node, "'t', 'SELECT k, -v AS v, wide FROM t', swap => '$method', delay => '0', keep_old => false");
        is(wait_job($node, $job), 'done', "$title: a job on what came of them");
        is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT tableoid), bool_and(v = -k) FROM t'), '400|4|t', "$title: its rows");
        check_clean($node, $title);
    }

    # During a build they wait for it, as any command does that locks the partition.
    if ($merges) {
        my $title = "$method: SPLIT during a build";
        make_table();
        set_point($node, 'loading/1 stop');
        my $job = start_job($node, "'t', 't', swap => '$method', delay => '0', keep_old => false, partitions => '{t_1}'");
        await_point($node, $job, 'loading');
        my $split = session($node);
        $split->query_until(qr/begun/, <<'SQL');
\echo begun
ALTER TABLE t SPLIT PARTITION t_1 INTO (PARTITION t_1 FOR VALUES FROM (0) TO (50), PARTITION t_1b FOR VALUES FROM (50) TO (100));
SQL
        await($node, "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted AND relation IN ('t'::regclass, 't_1'::regclass)");
        clear_point($node);
        is(wait_job($node, $job), 'failed', "$title: the job has nothing left to do");
        is($split->query('SELECT 1'), '1', "$title: and SPLIT too");
        is(states($node, $job), 'skipped', "$title: the partition is gone");
        same_rows($node, 't', $before, "$title: the rows");
        $split->quit;
        check_clean($node, $title);
    }
}

$node->stop;
done_testing();
