// The event trigger that keeps the extension from being dropped under its jobs.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "commands/event_trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
}

#include <fmt/format.h>

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/pg/compatibility.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/trusted.hpp"

namespace partbackfill {

namespace {

bool names(const List *objects, const char *name) {
    for (int i = 0; i < list_length(objects); i++)
        if (strcmp(strVal(list_nth(objects, i)), name) == 0)
            return true;
    return false;
}

bool is_of(const List *roles, Oid owner) {
    for (int i = 0; i < list_length(roles); i++)
        if (get_rolespec_oid(static_cast<const RoleSpec *>(list_nth(roles, i)), true) == owner)
            return true;
    return false;
}

// Whether the statement would drop the extension: by its name, with its schema, or with all
// objects of the owner of either.
bool drops(const Node *statement, const char *schema, Oid owner, Oid schema_owner) {
    if (IsA(statement, DropStmt)) {
        const auto *drop = reinterpret_cast<const DropStmt *>(statement);
        return (drop->removeType == OBJECT_EXTENSION && names(drop->objects, "partbackfill")) ||
               (drop->removeType == OBJECT_SCHEMA && names(drop->objects, schema));
    }
    if (!IsA(statement, DropOwnedStmt))
        return false;
    const List *roles = reinterpret_cast<const DropOwnedStmt *>(statement)->roles;
    return is_of(roles, owner) || is_of(roles, schema_owner);
}

bool cascades(const Node *statement) {
    return IsA(statement, DropStmt)
               ? reinterpret_cast<const DropStmt *>(statement)->behavior == DROP_CASCADE
               : reinterpret_cast<const DropOwnedStmt *>(statement)->behavior == DROP_CASCADE;
}

[[noreturn]] void raise_unfinished(const job::Job &job) {
    pg::raise(
        pg::sqlcode::kObjectInUse,
        fmt::format("cannot drop extension \"partbackfill\" because backfill job {} is unfinished", job.id),
        fmt::format("Its state is \"{}\".", core::name(job.state)),
        fmt::format("End it with backfill_cancel({0}), or wait for it with backfill_wait({0}).", job.id));
}

// The server would only name the triggers.
[[noreturn]] void raise_keeps_old(std::int64_t job) {
    pg::raise(
        pg::sqlcode::kDependentObjects,
        fmt::format("cannot drop extension \"partbackfill\" because backfill job {} keeps old rows", job),
        "Triggers watch the partitions, so that it can be reverted.",
        fmt::format("Drop the old rows with backfill_purge({}), or use DROP ... CASCADE, which leaves them.",
                    job));
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_refuse_drop: at the start of DROP EXTENSION, DROP SCHEMA and DROP OWNED.
PARTBACKFILL_FUNCTION_OF_ANY_VERSION(partbackfill_refuse_drop) {
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
        pg::raise(pg::sqlcode::kWrongObjectType, "backfill_refuse_drop() must be called as an event trigger");
    const auto *trigger = reinterpret_cast<const EventTriggerData *>(fcinfo->context);
    const pg::Extension extension = pg::find_extension();
    const pg::Row schema =
        pg::query_row("SELECT n.nspname, n.nspowner::bigint FROM pg_catalog.pg_extension AS e"
                      " JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
                      " WHERE e.oid OPERATOR(pg_catalog.=) $1",
                      {extension.oid});
    const std::string &name = schema.text(0);
    const Oid schema_owner = schema.oid(1);
    if (!pg::guard([&] { return drops(trigger->parsetree, name.c_str(), extension.owner, schema_owner); }))
        PG_RETURN_NULL();
    // Other statements must not fail because the extension is to be updated.
    pg::require_version();
    // The control tables cannot be trusted then, and a superuser may drop them.
    if (superuser() && pg::distrust(extension))
        PG_RETURN_NULL();
    std::optional<job::Job> job;
    std::optional<std::int64_t> keeps_old;
    {
        const pg::AsExtensionOwner owner;
        job = job::JobTable(owner).first_in_the_way();
        keeps_old = job::JobTable(owner).first_that_keeps_old();
    }
    if (job)
        raise_unfinished(*job);
    if (keeps_old && !cascades(trigger->parsetree))
        raise_keeps_old(*keeps_old);
    PG_RETURN_NULL();
}
