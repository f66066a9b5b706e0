#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

#include <cstdint>
#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "partbackfill/core/version.hpp"
#include "partbackfill/pg/compatibility.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/server_versions.hpp"

namespace partbackfill::pg {

void check_server() {
    const ServerVersion built_for{PG_VERSION_NUM, PG_VERSION};
    const ServerVersion running{atoi(GetConfigOption("server_version_num", false, false)),
                                GetConfigOption("server_version", false, false)};
    if (!runs_on(built_for, running))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("library \"partbackfill\" cannot run on PostgreSQL %s", running.text.data()),
                        errdetail("It was built for PostgreSQL %s; what it uses of the server differs.",
                                  built_for.text.data()),
                        errhint("Build partbackfill with the headers of this server, or install a package "
                                "that was.")));
}

namespace {

// The version of the extension's objects in this database; nullptr when it is not installed. C-style.
char *installed_version() {
    char *version = nullptr;
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
                CStringGetDatum("partbackfill"));
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, ExtensionNameIndexId, true, nullptr, 1, &key);
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        bool is_null = true;
        const Datum value =
            heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(catalog), &is_null);
        version = is_null ? pstrdup("") : TextDatumGetCString(value);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return version;
}

// Some functions change with each version. How often any has, and at which of these changes the versions were
// last seen to be the same.
std::uint64_t changes = 1;
std::uint64_t matched_at = 0;

#if PG_VERSION_NUM >= 190000
using CacheId = SysCacheIdentifier;
#else
using CacheId = int;
#endif

void function_changed(Datum, CacheId, uint32) {
    changes++;
}

void watch_functions() {
    static bool watching = false;
    if (watching)
        return;
    CacheRegisterSyscacheCallback(PROCOID, function_changed, 0);
    watching = true;
}

} // namespace

std::optional<ErrorFields> version_mismatch() {
    const char *installed = guard([] { return installed_version(); });
    if (installed == nullptr || strcmp(installed, kVersion) == 0)
        return std::nullopt;
    const std::string database = guard([] { return get_database_name(MyDatabaseId); });
    ErrorFields error;
    error.code = sqlcode::kObjectNotInPrerequisiteState;
    error.message =
        fmt::format("extension \"partbackfill\" of database \"{}\" has version {}, but its library {}",
                    database, installed, kVersion);
    error.detail = "Its jobs are left alone until both have the same version.";
    error.hint = core::precedes(installed, kVersion)
                     ? "Run ALTER EXTENSION partbackfill UPDATE."
                     : fmt::format("Install the library of version {}; then start the server anew where it "
                                   "is preloaded, else the session.",
                                   installed);
    return error;
}

void require_version() {
    if (matched_at == changes)
        return;
    guard([] { watch_functions(); });
    const std::uint64_t now = changes;
    if (auto mismatch = version_mismatch())
        throw Error(*std::move(mismatch));
    matched_at = now;
}

} // namespace partbackfill::pg
