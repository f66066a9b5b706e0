#include "partbackfill/pg/server.hpp"

extern "C" {
#include "commands/extension.h"
}

#include "partbackfill/pg/compatibility.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/trusted.hpp"

namespace partbackfill::pg {

bool extension_usable() {
    if (guard([] { return get_extension_oid("partbackfill", true); }) == InvalidOid)
        return false;
    const std::optional<ErrorFields> mismatch = version_mismatch();
    static bool logged = false;
    if (mismatch && !logged)
        guard([&] {
            ereport(WARNING,
                    (errcode(mismatch->code), errmsg_internal("%s", mismatch->message.c_str()),
                     errdetail_internal("%s", mismatch->detail.c_str()),
                     errhint("%s", mismatch->hint.c_str()), errhidestmt(true), errhidecontext(true)));
        });
    logged = logged || mismatch;
    return !mismatch;
}

Extension find_extension() {
    const KeepPlans keep;
    const Result result = query(R"SQL(
        SELECT e.oid::bigint, e.extowner::bigint, n.oid::bigint, pg_catalog.quote_ident(n.nspname)
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
        WHERE e.extname OPERATOR(pg_catalog.=) $1::pg_catalog.name
    )SQL",
                                {"partbackfill"});
    if (result.empty())
        raise(sqlcode::kUndefinedObject, "extension \"partbackfill\" is not installed in this database");
    const Row &row = result.rows.front();
    return {row.oid(0), row.oid(1), row.oid(2), row.text(3)};
}

AsExtensionOwner::AsExtensionOwner() : extension_(find_extension()) {
    require_version();
    require_trusted(extension_);
    GetUserIdAndSecContext(&user_before_, &context_before_);
    SetUserIdAndSecContext(extension_.owner, context_before_ | SECURITY_LOCAL_USERID_CHANGE);
}

AsExtensionOwner::~AsExtensionOwner() {
    SetUserIdAndSecContext(user_before_, context_before_);
}

Oid current_role() {
    return GetUserId();
}

std::string role_name(Oid role) {
    return guard([&] { return GetUserNameFromId(role, true); }) != nullptr
               ? std::string(guard([&] { return GetUserNameFromId(role, true); }))
               : "role " + std::to_string(role);
}

} // namespace partbackfill::pg
