#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/hidden_relation.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::pg {

namespace {

bool exists(Oid relation) {
    Relation catalog = table_open(RelationRelationId, AccessShareLock);
    ScanKeyData wanted;
    ScanKeyInit(&wanted, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    Snapshot newest = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(catalog, ClassOidIndexId, true, newest, 1, &wanted);
    const bool found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    UnregisterSnapshot(newest);
    table_close(catalog, AccessShareLock);
    return found;
}

} // namespace

// In this order: a relation that is dropped in between is not taken for a hidden one.
bool is_hidden(Oid relation) {
    return query("SELECT FROM pg_class AS c WHERE c.oid = $1", {relation}, Read::newest).empty() &&
           guard([&] { return exists(relation); });
}

} // namespace partbackfill::pg
