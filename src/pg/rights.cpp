#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "utils/acl.h"
#include "utils/syscache.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/rights.hpp"

namespace partbackfill::pg {

namespace {

// Membership asks for something else than SET from 16 on.
bool could_set_role(Oid member, Oid role) {
#if PG_VERSION_NUM >= 160000
    return member_can_set_role(member, role);
#else
    return is_member_of_role(member, role);
#endif
}

} // namespace

bool may_act_as(Oid role) {
    return guard([&] { return could_set_role(GetUserId(), role); });
}

bool may_change_for(Oid owner) {
    return guard([&] { return has_privs_of_role(GetUserId(), owner) && could_set_role(GetUserId(), owner); });
}

std::optional<Oid> owner_of(Oid table) {
    const Oid owner = guard([&] {
        HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
        if (!HeapTupleIsValid(tuple))
            return InvalidOid;
        const Oid found = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
        ReleaseSysCache(tuple);
        return found;
    });
    return owner == InvalidOid ? std::nullopt : std::optional(owner);
}

} // namespace partbackfill::pg
