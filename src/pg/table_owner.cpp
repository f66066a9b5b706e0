#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/table_owner.hpp"

namespace partbackfill::pg {

OwnerContext become_restricted_owner(Oid table) {
    OwnerContext before{};
    GetUserIdAndSecContext(&before.user, &before.security);
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", table);
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    SetUserIdAndSecContext(owner, before.security | SECURITY_RESTRICTED_OPERATION);
    before.settings = NewGUCNestLevel();
#if PG_VERSION_NUM >= 170000
    RestrictSearchPath();
#endif
    return before;
}

void become_again(const OwnerContext &before) {
    AtEOXact_GUC(false, before.settings);
    SetUserIdAndSecContext(before.user, before.security);
}

namespace {

OwnerContext become_owner_of_rows(Oid table) {
    const OwnerContext before = become_restricted_owner(table);
    Oid owner = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&owner, &context);
    SetUserIdAndSecContext(owner, context | SECURITY_NOFORCE_RLS);
    return before;
}

// An open index keeps its expressions in the cache through invalidations.
void open_indexes(Oid oid, List **open) {
    const OwnerContext before = become_restricted_owner(oid);
    Relation table = table_open(oid, AccessShareLock);
    List *indexes = RelationGetIndexList(table);
    for (int i = 0; i < list_length(indexes); i++) {
        Relation index = index_open(list_nth_oid(indexes, i), AccessShareLock);
        *open = lappend(*open, index);
        RelationGetIndexExpressions(index);
        RelationGetIndexPredicate(index);
    }
    table_close(table, NoLock);
    become_again(before);
}

} // namespace

AsTableOwner::AsTableOwner(Oid table) : before_(guard([&] { return become_owner_of_rows(table); })) {}

AsTableOwner::~AsTableOwner() {
    guard_noexcept([](void *before) { become_again(*static_cast<OwnerContext *>(before)); }, &before_);
}

KnownIndexes::KnownIndexes(const std::vector<Oid> &tables) {
    for (const Oid table : tables)
        guard([&] { open_indexes(table, &open_); });
}

KnownIndexes::~KnownIndexes() {
    guard_noexcept(
        [](void *list) {
            auto *open = static_cast<List *>(list);
            for (int i = 0; i < list_length(open); i++)
                index_close(static_cast<Relation>(list_nth(open, i)), NoLock);
        },
        open_);
}

} // namespace partbackfill::pg
