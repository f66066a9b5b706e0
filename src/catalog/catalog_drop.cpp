#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::catalog {

namespace {

void drop_trigger(Oid oid) {
    Relation catalog = table_open(TriggerRelationId, RowExclusiveLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
    SysScanDesc scan = systable_beginscan(catalog, TriggerOidIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        Relation table =
            table_open(reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple))->tgrelid, ShareRowExclusiveLock);
        deleteDependencyRecordsFor(TriggerRelationId, oid, false);
        CatalogTupleDelete(catalog, &tuple->t_self);
        CacheInvalidateRelcache(table);
        table_close(table, NoLock);
    }
    systable_endscan(scan);
    table_close(catalog, RowExclusiveLock);
}

void unmark(Oid table) {
    Relation catalog = table_open(RelationRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", table);
    reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relhastriggers = false;
    CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
    heap_freetuple(tuple);
    table_close(catalog, RowExclusiveLock);
    CommandCounterIncrement();
}

} // namespace

void drop_triggers(const std::vector<Oid> &triggers) {
    pg::guard([&] {
        for (const Oid trigger : triggers)
            drop_trigger(trigger);
        CommandCounterIncrement();
    });
}

void unmark_triggers(Oid table) {
    pg::guard([&] {
        Relation relation = table_open(table, NoLock);
        const bool stale = relation->rd_rel->relhastriggers && relation->trigdesc == nullptr;
        table_close(relation, NoLock);
        if (stale)
            unmark(table);
    });
}

void make_independent(Oid partition, const std::vector<Oid> &constraints, const std::vector<Oid> &triggers) {
    pg::guard([&] {
        Relation catalog = table_open(TriggerRelationId, RowExclusiveLock);
        for (const Oid constraint : constraints)
            ConstraintSetParentConstraint(constraint, InvalidOid, InvalidOid);
        for (const Oid trigger : triggers)
            TriggerSetParentTrigger(catalog, trigger, InvalidOid, partition);
        table_close(catalog, RowExclusiveLock);
        CommandCounterIncrement();
    });
}

void drop_constraints(const std::vector<Oid> &constraints) {
    pg::guard([&] {
        for (const Oid constraint : constraints) {
            ObjectAddress address;
            ObjectAddressSet(address, ConstraintRelationId, constraint);
            performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
        }
        CommandCounterIncrement();
    });
}

} // namespace partbackfill::catalog
