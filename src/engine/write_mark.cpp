// The trigger function of the guard: the first write of a transaction to a
// guarded partition leaves a row in backfill_write, whoever writes and however.
//
// All of it is in C's way: the server calls it and jumps out of it. It runs in
// the sessions of writers, so it takes no lock but ROW EXCLUSIVE on
// backfill_write and ACCESS SHARE nowhere, asks for no privilege, runs no SQL
// and reads nothing that SERIALIZABLE would have to remember.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "commands/trigger.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(partbackfill_guard);
PGDLLEXPORT Datum partbackfill_guard(PG_FUNCTION_ARGS);
}

namespace {

// A partition that this transaction has marked already. The row was inserted in
// a subtransaction, and is gone when that rolls back: so is this.
struct Marked {
    Oid table; // the key
    SubTransactionId marked_in;
};

HTAB *marked = nullptr; // in TopTransactionContext, made by the first mark
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
            hash_search(marked, &mark->table, HASH_REMOVE, nullptr);
    }
}

bool is_marked(Oid table) {
    return marked != nullptr && hash_search(marked, &table, HASH_FIND, nullptr) != nullptr;
}

void remember(Oid table) {
    if (!registered) {
        RegisterXactCallback(at_end, nullptr);
        RegisterSubXactCallback(at_subtransaction_end, nullptr);
        registered = true;
    }
    if (marked == nullptr) {
        HASHCTL control{};
        control.keysize = sizeof(Oid);
        control.entrysize = sizeof(Marked);
        control.hcxt = TopTransactionContext;
        marked = hash_create("partbackfill marks", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    auto *mark = static_cast<Marked *>(hash_search(marked, &table, HASH_ENTER, nullptr));
    mark->marked_in = GetCurrentSubTransactionId();
}

// One row (job, partition, xid). The lock stays to the end of the transaction,
// as that of any INSERT.
void insert_mark(Oid schema, int64 job, Oid partition) {
    const Oid oid = get_relname_relid("backfill_write", schema);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table \"backfill_write\" does not exist"),
                        errhint("Cancel the backfill, and install the extension anew.")));
    Relation table = table_open(oid, RowExclusiveLock);
    Datum values[3] = {Int64GetDatum(job), ObjectIdGetDatum(partition),
                       FullTransactionIdGetDatum(GetTopFullTransactionId())};
    bool nulls[3] = {false, false, false};
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(table), values, nulls);
    CatalogTupleInsert(table, tuple); // with its index; nothing of it is particular to catalogs
    heap_freetuple(tuple);
    table_close(table, NoLock);
}

} // namespace

// Fired AFTER each row and each TRUNCATE, always; its one argument is the job.
Datum partbackfill_guard(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("backfill_guard must be called as a trigger")));
    const auto *data = reinterpret_cast<TriggerData *>(fcinfo->context);
    const Oid partition = RelationGetRelid(data->tg_relation);
    if (is_marked(partition))
        return PointerGetDatum(nullptr);
    const Trigger *trigger = data->tg_trigger;
    if (!trigger->tgisinternal || trigger->tgnargs != 1)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("backfill_guard must be called by a trigger of a backfill")));
    insert_mark(get_func_namespace(fcinfo->flinfo->fn_oid), pg_strtoint64(trigger->tgargs[0]), partition);
    remember(partition);
    return PointerGetDatum(nullptr);
}
