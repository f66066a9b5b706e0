# Tables that get a new file between a worker's snapshot and its lock on them. Their rows carry the transaction that wrote
# them anew, which the snapshot does not see: to the worker the table would be empty.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

# A worker stands in a queue for half of deadlock_timeout at most.
my $node = new_node('rewritten_tables', settings => ['deadlock_timeout = 120s']);

for my $method (qw(attach storage)) {
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 99) AS k;
        CREATE TABLE truth (k int PRIMARY KEY, v text);
        INSERT INTO truth SELECT k, 'new ' || k FROM generate_series(0, 99) AS k;
        CREATE VIEW readable AS SELECT k, v FROM truth;
        CREATE TABLE staged (k int, v text) PARTITION BY RANGE (k);
        CREATE TABLE staged_1 PARTITION OF staged FOR VALUES FROM (0) TO (50);
        CREATE TABLE staged_2 PARTITION OF staged FOR VALUES FROM (50) TO (100);
        INSERT INTO staged SELECT k, 'staged ' || k FROM generate_series(0, 99) AS k;
        ANALYZE;
SQL

    # While rows are refreshed by their keys.
    {
        set_point($node, 'ready stop');
        my $job = start_job($node, "'t', 'staged', swap => '$method', on_write => 'catch_up', lock_timeout => '60 s', keep_old => false");
        await_point($node, $job, 'ready');
        $node->safe_psql('postgres', 'UPDATE t SET v = $$written$$ WHERE k % 10 = 0');
        my $rewriter = session($node);
        $rewriter->query_safe('BEGIN; ALTER TABLE staged_1 SET UNLOGGED');
        clear_point($node);
        await($node, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'staged_1'::regclass AND NOT granted");
        $rewriter->query_safe('COMMIT');
        is(wait_job($node, $job), 'done', "$method: a table is rewritten while a pass waits for it");
        same_rows($node, 't', 'TABLE staged', "$method: the keys of that pass are refreshed from all of its rows");
        $rewriter->quit;
    }

    # During a build, which locks a partition of its source only when the source is planned.
    {
        set_point($node, 'loading stop');
        my $job = start_job($node, "'t', 'staged', swap => '$method', on_write => 'ignore', allow_shrink => true, keep_old => false");
        await_point($node, $job, 'loading');
        $node->safe_psql('postgres', 'ALTER TABLE staged_2 SET UNLOGGED');
        clear_point($node);
        is(wait_job($node, $job), 'done', "$method: a partition of the source is rewritten while a build begins");
        same_rows($node, 't', 'TABLE staged', "$method: the build has all of its rows");
        is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job"), 1, "$method: it was put off, not failed");
    }

    # A table that only a function reads, whose statement is made part of the source or not.
    for my $language ('sql', 'plpgsql') {
        my $body = $language eq 'sql' ? 'SELECT k, v FROM truth' : 'BEGIN RETURN QUERY SELECT truth.k, truth.v FROM truth; END';
        $node->safe_psql('postgres', "CREATE OR REPLACE FUNCTION truths() RETURNS TABLE (k int, v text) LANGUAGE $language STABLE AS \$\$$body\$\$");
        set_point($node, 'loading stop');
        my $job = start_job($node, "'t', 'SELECT * FROM truths()', swap => '$method', on_write => 'ignore', allow_shrink => true, keep_old => false");
        await_point($node, $job, 'loading');
        $node->safe_psql('postgres', 'ALTER TABLE truth SET UNLOGGED; ALTER TABLE truth SET LOGGED');
        clear_point($node);
        is(wait_job($node, $job), 'done', "$method: what a function in $language reads is rewritten while a build begins");
        same_rows($node, 't', 'SELECT k, v FROM truth', "$method: the rows of the function in $language");
    }

    # What was not rewritten is no reason to build again.
    {
        my $logged = -s $node->logfile;
        set_point($node, 'loading stop');
        my $job = start_job($node, "'t', 'readable', swap => '$method', on_write => 'ignore', keep_old => false");
        await_point($node, $job, 'loading');
        $node->safe_psql('postgres', 'CREATE INDEX ON truth (v); GRANT SELECT ON truth TO PUBLIC; VACUUM truth; ANALYZE truth');
        clear_point($node);
        is(wait_job($node, $job), 'done', "$method: the source gets an index while a build begins");
        same_rows($node, 't', 'TABLE readable', "$method: the rows of the view");
        unlike(slurp_file($node->logfile, $logged), qr/could not read table "truth"/, "$method: by the first build");
    }
    check_clean($node, $method);
    $node->safe_psql('postgres', 'DROP TABLE t, staged, truth CASCADE; DROP FUNCTION truths');
}

$node->stop;
done_testing();
