// The trigger function of the write capture, for each role and each kind of write: the first
// write of each transaction to a captured partition leaves a row in backfill_write; where the
// partition has a key log, each written row leaves its key there instead.
//
// All of this file is in C's way: the server calls the function and jumps out of it. The
// function runs in the sessions of writers, so it takes no lock but ROW EXCLUSIVE on
// backfill_write or the key log, asks for no privilege, runs no SQL and reads nothing that
// SERIALIZABLE would have to remember.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(partbackfill_guard);
PGDLLEXPORT Datum partbackfill_guard(PG_FUNCTION_ARGS);
}

#include "partbackfill/pg/indexes.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace {

// The key of a row of backfill_write: several jobs may capture one table's writes.
struct MarkKey {
    int64 job;
    Oid table;
    uint32 unused; // the key is compared as bytes
};

// A mark that this transaction has made already. The row was inserted in a subtransaction;
// when that rolls back, the row is gone, and the entry is removed.
struct Marked {
    MarkKey key; // must be first
    SubTransactionId marked_in;
};

HTAB *marked = nullptr; // of Marked; in TopTransactionContext, made by the first mark
bool registered = false;

void at_end(XactEvent event, void *) {
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        marked = nullptr;
}

void at_subtransaction_end(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *) {
    if (marked == nullptr || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
        return;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, marked);
    for (void *entry; (entry = hash_seq_search(&scan)) != nullptr;) {
        auto *mark = static_cast<Marked *>(entry);
        if (mark->marked_in != own)
            continue;
        if (event == SUBXACT_EVENT_COMMIT_SUB)
            mark->marked_in = parent;
        else
            hash_search(marked, &mark->key, HASH_REMOVE, nullptr);
    }
}

bool is_marked(const MarkKey &key) {
    return marked != nullptr && hash_search(marked, &key, HASH_FIND, nullptr) != nullptr;
}

void remember(const MarkKey &key) {
    if (!registered) {
        RegisterXactCallback(at_end, nullptr);
        RegisterSubXactCallback(at_subtransaction_end, nullptr);
        registered = true;
    }
    if (marked == nullptr) {
        HASHCTL control{};
        control.keysize = sizeof(MarkKey);
        control.entrysize = sizeof(Marked);
        control.hcxt = TopTransactionContext;
        marked = hash_create("partbackfill marks", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    auto *mark = static_cast<Marked *>(hash_search(marked, &key, HASH_ENTER, nullptr));
    mark->marked_in = GetCurrentSubTransactionId();
}

// The functions of an index that another owner of the table has made would be called as the
// writer.
void refuse_expressions(CatalogIndexState indexes) {
    for (int i = 0; i < indexes->ri_NumIndices; i++)
        if (indexes->ri_IndexRelationInfo[i]->ii_Expressions != NIL)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("table \"backfill_write\" has an index on expressions"),
                            errhint("Drop the index.")));
}

// Inserts the row (job, partition, xid). The lock on the table stays to the end of the
// transaction, as that of any INSERT.
void insert_mark(Oid schema, const MarkKey &key) {
    const Oid oid = get_relname_relid("backfill_write", schema);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table \"backfill_write\" does not exist"),
                        errhint("Cancel the backfill, and install the extension anew.")));
    Relation table = table_open(oid, RowExclusiveLock);
    Datum values[3] = {Int64GetDatum(key.job), ObjectIdGetDatum(key.table),
                       FullTransactionIdGetDatum(GetTopFullTransactionId())};
    bool nulls[3] = {false, false, false};
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(table), values, nulls);
    CatalogIndexState indexes = CatalogOpenIndexes(table);
    refuse_expressions(indexes);
    CatalogTupleInsertWithInfo(table, tuple, indexes); // works for every table
    CatalogCloseIndexes(indexes);
    heap_freetuple(tuple);
    table_close(table, NoLock);
}

// Marks after which a capture that needs the first ones only makes no more.
using partbackfill::writes::kEnoughMarks;

// Whether as many marks of committed transactions are there. What is read is no snapshot's, so that
// SERIALIZABLE remembers nothing.
bool has_enough_marks(Oid schema, const MarkKey &key) {
    const Oid oid = get_relname_relid("backfill_write", schema);
    if (!OidIsValid(oid))
        return false; // insert_mark() says so
    Relation table = table_open(oid, RowExclusiveLock);
    const Oid index = partbackfill::pg::primary_key_index(table);
    int count = 0;
    if (OidIsValid(index)) {
        ScanKeyData keys[2];
        ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key.job));
        ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(key.table));
        SysScanDesc scan = systable_beginscan(table, index, true, SnapshotSelf, 2, keys);
        while (count < kEnoughMarks && HeapTupleIsValid(systable_getnext(scan)))
            count++;
        systable_endscan(scan);
    }
    table_close(table, NoLock);
    return count >= kEnoughMarks;
}

// What a trigger's arguments say of the key log; kept for the rows of a statement.
struct KeyWriter {
    Oid log;
    int count;
    AttrNumber columns[INDEX_MAX_KEYS]; // of the partition, in the order of the log's
};

KeyWriter *key_writer(FunctionCallInfo fcinfo, const Trigger *trigger) {
    if (fcinfo->flinfo->fn_extra == nullptr) {
        auto *writer =
            static_cast<KeyWriter *>(MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(KeyWriter)));
        writer->log = static_cast<Oid>(pg_strtoint64(trigger->tgargs[1]));
        const char *rest = trigger->tgargs[2];
        while (*rest != '\0' && writer->count < INDEX_MAX_KEYS) {
            char *end = nullptr;
            writer->columns[writer->count++] = static_cast<AttrNumber>(strtol(rest, &end, 10));
            rest = *end == ' ' ? end + 1 : end;
        }
        fcinfo->flinfo->fn_extra = writer;
    }
    return static_cast<KeyWriter *>(fcinfo->flinfo->fn_extra);
}

// Whether the log still takes keys of the table as it is now: it is marked as the log of this
// table, and each column has the type that it had.
bool fits(Relation log, Relation table, const KeyWriter *writer) {
    const TupleDesc from = RelationGetDescr(table);
    const TupleDesc to = RelationGetDescr(log);
    if (log->rd_rel->relrewrite != RelationGetRelid(table) || to->natts != writer->count + 1)
        return false;
    for (int i = 0; i < writer->count; i++) {
        if (writer->columns[i] < 1 || writer->columns[i] > from->natts)
            return false;
        const Form_pg_attribute column = TupleDescAttr(from, writer->columns[i] - 1);
        if (column->attisdropped || column->atttypid != TupleDescAttr(to, i + 1)->atttypid)
            return false;
    }
    return true;
}

// The log's row: the writer's transaction and the key of the row in the slot. False when a column
// of the key is NULL.
bool form_entry(const KeyWriter *writer, TupleTableSlot *row, Datum *values, bool *nulls) {
    values[0] = FullTransactionIdGetDatum(GetTopFullTransactionId());
    nulls[0] = false;
    for (int i = 0; i < writer->count; i++) {
        values[i + 1] = slot_getattr(row, writer->columns[i], &nulls[i + 1]);
        if (nulls[i + 1])
            return false;
    }
    return true;
}

void insert_key(Relation log, Datum *values, bool *nulls) {
    HeapTuple entry = heap_form_tuple(RelationGetDescr(log), values, nulls);
    heap_insert(log, entry, GetCurrentCommandId(true), 0, nullptr);
    heap_freetuple(entry);
}

bool same_key(Relation log, int count, const Datum *a, const Datum *b) {
    const TupleDesc desc = RelationGetDescr(log);
    for (int i = 1; i <= count; i++) {
        const Form_pg_attribute column = TupleDescAttr(desc, i);
        if (!datum_image_eq(a[i], b[i], column->attbyval, column->attlen))
            return false;
    }
    return true;
}

// Logs the keys of the row before and after the write. False when the log does not take them.
bool log_keys(const TriggerData *data, const KeyWriter *writer) {
    Relation log = try_table_open(writer->log, RowExclusiveLock);
    if (log == nullptr)
        return false;
    Datum before[INDEX_MAX_KEYS + 1];
    Datum after[INDEX_MAX_KEYS + 1];
    bool nulls[INDEX_MAX_KEYS + 1];
    bool logged =
        fits(log, data->tg_relation, writer) && form_entry(writer, data->tg_trigslot, before, nulls);
    if (logged) {
        insert_key(log, before, nulls);
        if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
            logged = form_entry(writer, data->tg_newslot, after, nulls);
            if (logged && !same_key(log, writer->count, before, after))
                insert_key(log, after, nulls);
        }
    }
    table_close(log, NoLock);
    return logged;
}

} // namespace

// Fires AFTER each row and each TRUNCATE, always. The arguments are the job and, for rows of a
// partition that has a key log, the OID of the log and the numbers of the key's columns; then "first"
// where enough marks are as good as all.
Datum partbackfill_guard(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("backfill_guard must be called as a trigger")));
    const auto *data = reinterpret_cast<TriggerData *>(fcinfo->context);
    const Trigger *trigger = data->tg_trigger;
    if (!trigger->tgisinternal || trigger->tgnargs < 1 || trigger->tgnargs > 4)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("backfill_guard must be called by a trigger of a backfill")));
    const bool has_log = trigger->tgnargs >= 3;
    const bool first_only = trigger->tgnargs % 2 == 0;
    if (has_log && TRIGGER_FIRED_FOR_ROW(data->tg_event) && log_keys(data, key_writer(fcinfo, trigger)))
        return Datum{0};
    // Marks of the first transactions stand under the negative number of the job.
    const int64 job = pg_strtoint64(trigger->tgargs[0]);
    const MarkKey key{first_only ? -job : job, RelationGetRelid(data->tg_relation), 0};
    if (is_marked(key))
        return Datum{0};
    const Oid schema = get_func_namespace(fcinfo->flinfo->fn_oid);
    if (!first_only || !has_enough_marks(schema, key))
        insert_mark(schema, key);
    remember(key);
    return Datum{0};
}
