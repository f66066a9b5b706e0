#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/pg_class.h"
#include "utils/syscache.h"
}

#include "partbackfill/catalog/bound.hpp"
#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::catalog {

PartitionBoundSpec *bound_of(Oid partition) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(partition));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", partition);
    bool null = false;
    const Datum bound = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &null);
    if (null)
        elog(ERROR, "relation %u has no partition bound", partition);
    auto *spec = static_cast<PartitionBoundSpec *>(stringToNode(TextDatumGetCString(bound)));
    ReleaseSysCache(tuple);
    return spec;
}

PartitionKey key_of(Relation table) {
    const int level = pg::use_callers_path();
    const PartitionKey key = RelationGetPartitionKey(table);
    pg::end_callers_path(level);
    return key;
}

} // namespace partbackfill::catalog
