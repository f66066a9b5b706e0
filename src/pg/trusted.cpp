#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/trusted.hpp"

namespace partbackfill::pg {

namespace {

constexpr const char *kTables[] = {"backfill_job", "backfill_control", "backfill_write"};
// Functions that run in statements on these tables, the last two as triggers.
constexpr const char *kFunctions[] = {"backfill_installation", "backfill_announce", "backfill_keep_local"};

enum class Flaw { none, owner, grant, attached };

struct Finding {
    Flaw flaw = Flaw::none;
    const char *kind = nullptr; // of the object
    const char *name = nullptr;
    Oid role = kNoOid;
};

// The functions below are C-style.

Oid function_in(const char *name, Oid schema) {
    oidvector *no_arguments = buildoidvector(nullptr, 0);
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
                           PointerGetDatum(no_arguments), ObjectIdGetDatum(schema));
}

Oid owner_of_function(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner;
    ReleaseSysCache(tuple);
    return owner;
}

// Whether a role has a privilege with which other roles' statements on the table call that
// role's functions.
bool may_hang_on(Relation table, Oid *role) {
    bool is_null = true;
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(table)));
    const Datum datum = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &is_null);
    Acl *acl = is_null ? nullptr : DatumGetAclPCopy(datum);
    ReleaseSysCache(tuple);
    for (int i = 0; acl != nullptr && i < ACL_NUM(acl); i++) {
        const AclItem &item = ACL_DAT(acl)[i];
        *role = item.ai_grantee;
        if ((ACLITEM_GET_PRIVS(item) & (ACL_TRIGGER | ACL_REFERENCES)) != 0 &&
            (*role == ACL_ID_PUBLIC || !superuser_arg(*role)))
            return true;
    }
    return false;
}

// Whether the table has a rule, a trigger or a child that the extension did not make.
bool has_attached(Relation table, Oid schema) {
    const TriggerDesc *triggers = table->trigdesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++) {
        const Trigger &trigger = triggers->triggers[i];
        if (!trigger.tgisinternal && trigger.tgfoid != function_in(kFunctions[1], schema) &&
            trigger.tgfoid != function_in(kFunctions[2], schema))
            return true;
    }
    return table->rd_rules != nullptr || find_inheritance_children(RelationGetRelid(table), NoLock) != NIL;
}

Finding check_table(const char *name, Oid schema) {
    Finding finding{Flaw::none, "table", name, kNoOid};
    Relation table = table_open(get_relname_relid(name, schema), AccessShareLock);
    if (!superuser_arg(table->rd_rel->relowner)) {
        finding.flaw = Flaw::owner;
        finding.role = table->rd_rel->relowner;
    } else if (may_hang_on(table, &finding.role)) {
        finding.flaw = Flaw::grant;
    } else if (has_attached(table, schema)) {
        finding.flaw = Flaw::attached;
    }
    table_close(table, AccessShareLock);
    return finding;
}

Finding check(Oid owner, Oid schema) {
    if (!superuser_arg(owner))
        return {Flaw::owner, "extension", "partbackfill", owner};
    for (const char *name : kFunctions) {
        const Oid role = owner_of_function(function_in(name, schema));
        if (!superuser_arg(role))
            return {Flaw::owner, "function", name, role};
    }
    for (const char *name : kTables) {
        const Finding finding = check_table(name, schema);
        if (finding.flaw != Flaw::none)
            return finding;
    }
    return {};
}

// Whether nothing that the check depends on has changed since it last found nothing.
bool is_fresh = false;
Oid checked[2] = {kNoOid, kNoOid}; // owner and schema
Oid tables[std::size(kTables)];

void table_changed(Datum, Oid table) {
    for (const Oid one : tables)
        is_fresh = is_fresh && table != InvalidOid && table != one;
}

#if PG_VERSION_NUM >= 190000
using CacheId = SysCacheIdentifier;
#else
using CacheId = int;
#endif

void object_changed(Datum, CacheId, uint32) {
    is_fresh = false;
}

void watch() {
    static bool watching = false;
    if (watching)
        return;
    CacheRegisterRelcacheCallback(table_changed, 0);
    CacheRegisterSyscacheCallback(AUTHOID, object_changed, 0);
    CacheRegisterSyscacheCallback(PROCOID, object_changed, 0);
    watching = true;
}

Finding check_if_changed(Oid owner, Oid schema) {
    watch();
    AcceptInvalidationMessages();
    if (is_fresh && checked[0] == owner && checked[1] == schema)
        return {};
    for (size_t i = 0; i < std::size(kTables); i++)
        tables[i] = get_relname_relid(kTables[i], schema);
    is_fresh = true; // unless something changes during the check
    const Finding finding = check(owner, schema);
    checked[0] = owner;
    checked[1] = schema;
    is_fresh = is_fresh && finding.flaw == Flaw::none;
    return finding;
}

constexpr const char *kTakeOver =
    "What stands in the control tables may be anybody's by now: drop the extension and create it again. "
    "A superuser who trusts it makes the role a superuser again, or runs REASSIGN OWNED.";

} // namespace

std::optional<ErrorFields> distrust(const Extension &extension) {
    const Finding found = guard([&] { return check_if_changed(extension.owner, extension.schema_oid); });
    const std::string object = found.kind != nullptr ? fmt::format("{} \"{}\"", found.kind, found.name) : "";
    ErrorFields error;
    switch (found.flaw) {
    case Flaw::none:
        return std::nullopt;
    case Flaw::owner:
        error.code = sqlcode::kInsufficientPrivilege;
        error.message = fmt::format("owner of {} must be a superuser", object);
        error.detail =
            fmt::format("It belongs to role \"{}\", which could make the workers of other roles run its SQL.",
                        role_name(found.role));
        error.hint = kTakeOver;
        break;
    case Flaw::grant: {
        const std::string role =
            found.role == ACL_ID_PUBLIC ? "PUBLIC" : quote_identifier(role_name(found.role));
        error.code = sqlcode::kInsufficientPrivilege;
        error.message =
            fmt::format("{} must not be open to triggers and foreign keys of other roles", object);
        error.detail = "What a trigger does that another role makes on it, it does with the rights of the "
                       "extension's owner.";
        error.hint = fmt::format("REVOKE ALL ON TABLE {}.{} FROM {}.", extension.schema, found.name, role);
        break;
    }
    case Flaw::attached:
        error.code = sqlcode::kObjectNotInPrerequisiteState;
        error.message =
            fmt::format("{} has a trigger, a rule or a child that the extension did not make", object);
        error.detail = "It would act with the rights of the extension's owner.";
        error.hint = "Drop it.";
        break;
    }
    return error;
}

void require_trusted(const Extension &extension) {
    if (auto error = distrust(extension))
        throw Error(*std::move(error));
}

void require_superusers_table(Oid owner) {
    if (!superuser_arg(owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("owner of the control tables must be a superuser")));
}

} // namespace partbackfill::pg
