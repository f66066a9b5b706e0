#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

#include "partbackfill/load/rewritten_tables.hpp"
#include "partbackfill/pg/lock_holders.hpp"
#include "partbackfill/pg/tables_read.hpp"

namespace partbackfill::load {

namespace {

// Partitions that the executor has left out may not be locked.
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

void check_not_rewritten() {
    Relation catalog = table_open(RelationRelationId, AccessShareLock);
    const List *tables = pg::tables_read();
    for (int i = 0; i < list_length(tables); i++)
        check(catalog, list_nth_oid(tables, i));
    table_close(catalog, AccessShareLock);
}

} // namespace partbackfill::load
