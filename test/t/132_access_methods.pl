# Partitions of other table access methods. The rows of a heap are frozen when they are loaded; those of another access method are
# seen only by snapshots that are newer than the build: the swap waits for the others, and no reader ever sees an empty partition.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Library;
use PostgreSQL::Test::Utils;
use Revert;
use Test::More;

# An access method that works as a heap, and is not one for who looks.
my $library = build_library('copied', <<'C');
#include "postgres.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "fmgr.h"
#include "utils/rel.h"

PG_MODULE_MAGIC;

static TableAmRoutine routine;

/* The server's function asks for a heap by its address. */
static double build(Relation table, Relation index, struct IndexInfo *info, bool allow_sync, bool any_visible, bool progress,
                    BlockNumber first, BlockNumber count, IndexBuildCallback callback, void *state, TableScanDesc scan)
{
    double rows;

    table->rd_tableam = GetHeapamTableAmRoutine();
    rows = table->rd_tableam->index_build_range_scan(table, index, info, allow_sync, any_visible, progress, first, count, callback, state, scan);
    table->rd_tableam = &routine;
    return rows;
}

PG_FUNCTION_INFO_V1(copied_handler);
Datum copied_handler(PG_FUNCTION_ARGS)
{
    routine = *GetHeapamTableAmRoutine();
    routine.index_build_range_scan = build;
    PG_RETURN_POINTER(&routine);
}
C

my $node = new_node('access_methods', settings => ["partbackfill.helpers = off"]);
$node->safe_psql('postgres', <<"SQL");
    CREATE FUNCTION copied_handler(internal) RETURNS table_am_handler LANGUAGE c AS '$library', 'copied_handler';
    CREATE ACCESS METHOD copied TYPE TABLE HANDLER copied_handler;
    CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
SQL

sub make_table {
    my ($method) = @_;
    $node->safe_psql('postgres', <<"SQL");
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t;
        CREATE TABLE t (k int, v text, x text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100) USING $method;
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200) USING $method;
        CREATE INDEX ON t (k);
        INSERT INTO t SELECT k, 'old', CASE WHEN k % 10 = 0 THEN (SELECT string_agg(md5(k::text || i), '') FROM generate_series(1, 400) AS i) END
        FROM generate_series(0, 199) AS k;
SQL
    return;
}
my $arguments = "'t', 'SELECT k, ''new'' AS v, x FROM t', delay => '0'";
my $seen = q{SELECT string_agg(v || ' ' || n, ', ') FROM (SELECT v, count(*) AS n FROM t GROUP BY v) AS g};

for my $swap (qw(attach storage)) {
    for my $publish (qw(each together)) {
        for my $on_write (qw(rebuild ignore)) {
            my $title = "$swap, $publish, $on_write";
            make_table('copied');
            my $reader = session($node);
            $reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()');
            my $pid = $reader->query_safe('SELECT pg_backend_pid()') =~ s/\s//gr;
            my $job = start_job($node, "$arguments, swap => '$swap', publish => '$publish', on_write => '$on_write'");
            await($node, "SELECT bool_or(waiting_on = 'snapshot (held by $pid)') FROM backfill_progress WHERE job = $job");
            is($reader->query_safe($seen), 'old 200', "$title: who began before sees all of the old rows");
            $reader->query_safe('COMMIT');
            is(wait_job($node, $job), 'done', "$title: done once that one has ended");
            is($node->safe_psql('postgres', $seen), 'new 200', "$title: the new rows are there");
            is($node->safe_psql('postgres', q{SELECT string_agg(am.amname, ' ') FROM pg_class AS c JOIN pg_am AS am ON am.oid = relam WHERE relname ~ '^t_\d$' AND relnamespace = 'public'::regnamespace}),
                'copied copied', "$title: stored as before");

            # The old rows come back for all.
            $reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()');
            $reader->query_safe('COMMIT');
            is($node->safe_psql('postgres', "SELECT backfill_revert($job)"), 2, "$title: reverted");
            is($node->safe_psql('postgres', $seen), 'old 200', "$title: to the old rows");
            $reader->quit;
            end_job($node, $job, $title);
        }
    }

    # Who waits for the job has a snapshot, too, and reads nothing by it.
    my $title = "$swap, a session waits";
    make_table('copied');
    my $state = $node->safe_psql('postgres', "SELECT backfill_start($arguments, swap => '$swap') AS job \\gset\nSELECT backfill_wait(:job, '100 s')");
    is($state, 'done', "$title: for the end");
    my $manual = start_job($node, "$arguments, swap => '$swap', publish => 'manual'");
    is(wait_job($node, $manual), 'ready', "$title: for everything to be built");
    $node->safe_psql('postgres', q{UPDATE t SET x = 'written' WHERE k = 5});
    is($node->safe_psql('postgres', "SELECT backfill_publish($manual)"), 2, "$title: for the publication, which builds one anew");
    is($node->safe_psql('postgres', q{SELECT v || x FROM t WHERE k = 5}), 'newwritten', "$title: with what was written");
    is($node->safe_psql('postgres', "SELECT backfill_revert($manual)"), 2, "$title: for a revert");
    $node->safe_psql('postgres', "SELECT backfill_purge(job), backfill_forget(job) FROM backfill_status WHERE job = $manual - 1");
    end_job($node, $manual, $title);

    $title = "$swap, out of patience";
    make_table('copied');
    my $reader = session($node);
    $reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()');
    my $job = start_job($node, "$arguments, swap => '$swap', swap_patience => '100 ms'");
    is(wait_job($node, $job), 'failed', "$title: the job fails");
    like($node->safe_psql('postgres', "SELECT min(error) FROM backfill_progress WHERE job = $job"),
        qr/transactions that began before its build, and would see none of its rows: snapshot \(held by \d+\)/, "$title: with the reason");
    is($reader->query_safe($seen), 'old 200', "$title: the rows stay");
    $reader->query_safe('COMMIT');
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), 2, "$title: retried");
    is(wait_job($node, $job), 'done', "$title: and done");
    $reader->quit;
    end_job($node, $job, $title);

    $title = "$swap, a heap by another name";
    make_table('heap2');
    $reader = session($node);
    $reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()');
    $job = start_job($node, "$arguments, swap => '$swap', on_write => 'block'");
    is(wait_job($node, $job), 'done', "$title: nobody is waited for");
    is($reader->query_safe($seen), 'new 200', "$title: who began before sees all of the new rows");
    $reader->quit;
    end_job($node, $job, $title);
}

make_table('copied');
for my $on_write (qw(block catch_up)) {
    my ($code, $message) = error_of($node, "SELECT backfill_start($arguments, on_write => '$on_write')");
    isnt($code, 'none', "$on_write: refused");
    like($message, qr/stored by access method copied/, "$on_write: with the reason");
}
like($node->safe_psql('postgres', "SELECT string_agg(h, '; ') FROM backfill_plan('t', 't'), unnest(hazards) AS h"),
    qr/is stored by access method copied: its swap waits/, 'backfill_plan says what it waits for');

# The last build of a partition that is written to all the time would be one that holds writers.
{
    my $title = 'written to all the time';
    my $clients = start_clients($node, 2, '-f', do {
            my $file = "$PostgreSQL::Test::Utils::tmp_check/write.sql";
            append_to_file($file, "UPDATE t SET x = x WHERE k = 5;\n");
            $file;
    });
    my $job = start_job($node, "$arguments, swap => 'storage', partitions => '{t_1}', max_attempts => 1");
    is(wait_job($node, $job), 'failed', "$title: the job fails");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"), qr/^cannot rebuild partition "t_1" while writers wait$/m, "$title: with the reason");
    is(stop_clients($clients), '', "$title: no writer meets an error");
    is($node->safe_psql('postgres', $seen), 'old 200', "$title: the rows stay");
    end_job($node, $job, $title);
}
$node->stop;
done_testing();
