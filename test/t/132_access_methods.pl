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
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

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

/* An access method may have catalogs of its own, to which it writes. */
#if PG_VERSION_NUM >= 190000
static void insert(Relation table, TupleTableSlot **rows, int count, CommandId command, uint32 options, BulkInsertStateData *state)
#else
static void insert(Relation table, TupleTableSlot **rows, int count, CommandId command, int options, struct BulkInsertStateData *state)
#endif
{
    PreventCommandIfReadOnly("INSERT");
    PreventCommandIfParallelMode("INSERT");
    GetHeapamTableAmRoutine()->multi_insert(table, rows, count, command, options, state);
}

#if PG_VERSION_NUM >= 160000
static void set_file(Relation table, const RelFileLocator *file, char persistence, TransactionId *oldest, MultiXactId *oldest_multi)
#else
static void set_file(Relation table, const RelFileNode *file, char persistence, TransactionId *oldest, MultiXactId *oldest_multi)
#endif
{
    PreventCommandIfReadOnly("CREATE TABLE");
#if PG_VERSION_NUM >= 160000
    GetHeapamTableAmRoutine()->relation_set_new_filelocator(table, file, persistence, oldest, oldest_multi);
#else
    GetHeapamTableAmRoutine()->relation_set_new_filenode(table, file, persistence, oldest, oldest_multi);
#endif
}

PG_FUNCTION_INFO_V1(copied_handler);
Datum copied_handler(PG_FUNCTION_ARGS)
{
    routine = *GetHeapamTableAmRoutine();
    routine.index_build_range_scan = build;
    routine.multi_insert = insert;
#if PG_VERSION_NUM >= 160000
    routine.relation_set_new_filelocator = set_file;
#else
    routine.relation_set_new_filenode = set_file;
#endif
    PG_RETURN_POINTER(&routine);
}

/* Tables of an access method "strict" have no triggers AFTER each row. */
static object_access_hook_type previous;

static void forbid(ObjectAccessType access, Oid class_id, Oid object, int sub, void *argument)
{
    if (previous)
        previous(access, class_id, object, sub, argument);
    if (access == OAT_POST_CREATE && class_id == TriggerRelationId)
    {
        Relation triggers = table_open(TriggerRelationId, AccessShareLock);
        ScanKeyData key;
        SysScanDesc scan;
        HeapTuple row;
        Form_pg_trigger trigger;
        Relation table;
        bool forbidden;

        ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
        scan = systable_beginscan(triggers, TriggerOidIndexId, true, SnapshotSelf, 1, &key);
        row = systable_getnext(scan);
        trigger = (Form_pg_trigger) GETSTRUCT(row);
        table = RelationIdGetRelation(trigger->tgrelid);
        forbidden = TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_AFTER(trigger->tgtype)
            && table->rd_rel->relam == get_am_oid("strict", true);
        RelationClose(table);
        systable_endscan(scan);
        table_close(triggers, AccessShareLock);
        if (forbidden)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("no triggers after each row for strict tables")));
    }
}

void _PG_init(void);
void _PG_init(void)
{
    previous = object_access_hook;
    object_access_hook = forbid;
}
C

my $node = new_node('access_methods', settings => ["partbackfill.helpers = off"]);
$node->safe_psql('postgres', <<"SQL");
    CREATE FUNCTION copied_handler(internal) RETURNS table_am_handler LANGUAGE c AS '$library', 'copied_handler';
    CREATE ACCESS METHOD copied TYPE TABLE HANDLER copied_handler;
    CREATE ACCESS METHOD strict TYPE TABLE HANDLER copied_handler;
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

# Without triggers for each row a partition can be rebuilt only when no session writes to it.
for my $swap (qw(attach storage)) {
    make_table('strict');
    for my $on_write (qw(rebuild catch_up)) {
        my ($code, $message) = error_of($node, "SELECT backfill_start($arguments, on_write => '$on_write', swap => '$swap')");
        isnt($code, 'none', "strict, $swap, $on_write: refused at the door");
    }
    my (undef, $message) = error_of($node, "SELECT backfill_start($arguments, swap => '$swap')");
    like($message, qr/cannot notice writes to partition "t_1".*stored by access method strict, which has no triggers for each row/s, "strict, $swap: with the reason");
    for my $keep (qw(true false)) {
        my $title = "strict, $swap, keep_old => $keep";
        my $job = start_job($node, "$arguments, swap => '$swap', on_write => 'ignore', keep_old => $keep, max_attempts => 1");
        is(wait_job($node, $job), 'done', "$title: done");
        is($node->safe_psql('postgres', $seen), 'new 200', "$title: the new rows are there");
        if ($keep eq 'true') {
            $node->psql('postgres', "SELECT backfill_revert($job)");
            is($node->safe_psql('postgres', $seen), 'new 200', "$title: not reverted, since writes were not noticed");
            is($node->safe_psql('postgres', "SELECT backfill_revert($job, force => true)"), 2, "$title: it is, by force");
            is($node->safe_psql('postgres', $seen), 'old 200', "$title: to the old rows");
        }
        end_job($node, $job, $title);
    }

    my $title = "strict, $swap, the shadow is written to";
    make_table('strict');
    my $job = start_job($node, "$arguments, swap => '$swap', on_write => 'ignore', publish => 'manual'");
    is(wait_job($node, $job), 'ready', "$title: after its build");
    $node->safe_psql('postgres', "DELETE FROM backfill_${job}_new.t_1");
    is($node->safe_psql('postgres', "SELECT backfill_publish($job)"), 2, "$title: it is built anew");
    is($node->safe_psql('postgres', $seen), 'new 200', "$title: the new rows are there");
    end_job($node, $job, $title);
}

# The last build of a partition that is written to all the time would be one that holds writers.
{
    my $title = 'written to all the time';
    make_table('copied');
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
