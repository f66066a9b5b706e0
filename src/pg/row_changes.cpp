#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_constraint.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/fmgroids.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"
}

#include "partbackfill/pg/row_changes.hpp"

namespace partbackfill::pg {

IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys) {
#if PG_VERSION_NUM >= 190000
    const uint32 flags = 0;
    return index_beginscan(table, index, snapshot, nullptr, keys, 0, flags);
#elif PG_VERSION_NUM >= 180000
    return index_beginscan(table, index, snapshot, nullptr, keys, 0);
#else
    return index_beginscan(table, index, snapshot, keys, 0);
#endif
}

List *insert_index_entries(ResultRelInfo *result, TupleTableSlot *row, EState *estate) {
#if PG_VERSION_NUM >= 190000
    const uint32 flags = 0; // no update, errors raised, all indexes
    return ExecInsertIndexTuples(result, estate, flags, row, NIL, nullptr);
#else
    const bool is_update = false;
    const bool no_error = false;
#if PG_VERSION_NUM >= 160000
    const bool only_summarizing = false;
    return ExecInsertIndexTuples(result, row, estate, is_update, no_error, nullptr, NIL, only_summarizing);
#else
    return ExecInsertIndexTuples(result, row, estate, is_update, no_error, nullptr, NIL);
#endif
#endif
}

namespace {

bool is_validated(Oid constraint) {
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
    if (!HeapTupleIsValid(tuple))
        return true;
    const bool validated = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple))->convalidated;
    ReleaseSysCache(tuple);
    return validated;
}

bool checks_constraint(const Trigger &trigger) {
    if (!trigger.tgisinternal)
        return false;
    if (trigger.tgfoid == F_UNIQUE_KEY_RECHECK)
        return true;
    return trigger.tgfoid == F_RI_FKEY_CHECK_INS && is_validated(trigger.tgconstraint);
}

} // namespace

void keep_constraint_triggers(ResultRelInfo *result) {
    TriggerDesc *all = result->ri_TrigDesc;
    if (all == nullptr)
        return;
    auto *kept = static_cast<TriggerDesc *>(palloc0(sizeof(TriggerDesc)));
    kept->triggers = static_cast<Trigger *>(palloc(sizeof(Trigger) * static_cast<Size>(all->numtriggers)));
    for (int i = 0; i < all->numtriggers; i++) {
        if (checks_constraint(all->triggers[i]))
            kept->triggers[kept->numtriggers++] = all->triggers[i];
    }
    kept->trig_insert_after_row = kept->numtriggers > 0;
    result->ri_TrigDesc = kept->numtriggers > 0 ? kept : nullptr;
}

} // namespace partbackfill::pg
