#include "partbackfill/load/rewritten_tables.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

#include "partbackfill/pg/lock_holders.hpp"

namespace partbackfill::load {

namespace {

// Partitions that the planner left out are not locked.
bool is_locked(Oid relation) {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, relation);
    return pg::lock_held_by_me(&tag, AccessShareLock);
}

Oid file_now(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relation);
    const Oid file = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relfilenode;
    ReleaseSysCache(tuple);
    return file;
}

// False when the snapshot does not see the relation.
bool has_file_in_snapshot(Relation catalog, Oid relation, Oid file) {
    ScanKeyData wanted;
    ScanKeyInit(&wanted, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    SysScanDesc scan = systable_beginscan(catalog, ClassOidIndexId, true, GetActiveSnapshot(), 1, &wanted);
    const HeapTuple tuple = systable_getnext(scan);
    const bool has =
        HeapTupleIsValid(tuple) && reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relfilenode == file;
    systable_endscan(scan);
    return has;
}

void check(Relation catalog, Oid relation) {
    if (!is_locked(relation) || has_file_in_snapshot(catalog, relation, file_now(relation)))
        return;
    ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                    errmsg("could not read table \"%s\" by the snapshot that was taken for it",
                           get_rel_name(relation)),
                    errdetail("The table was rewritten before it was locked.")));
}

} // namespace

void check_not_rewritten(const CachedPlanSource *statement) {
    Relation catalog = table_open(RelationRelationId, AccessShareLock);
    for (int i = 0; i < list_length(statement->relationOids); i++) {
        const Oid named = list_nth_oid(statement->relationOids, i);
        check(catalog, named);
        List *children = has_subclass(named) ? find_all_inheritors(named, NoLock, nullptr) : NIL;
        for (int k = 0; k < list_length(children); k++)
            check(catalog, list_nth_oid(children, k));
        list_free(children);
    }
    table_close(catalog, AccessShareLock);
}

} // namespace partbackfill::load
