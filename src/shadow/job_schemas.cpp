#include "partbackfill/shadow/job_schemas.hpp"

#include <fmt/format.h>

#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::shadow {

namespace {

// Whether the schema is there. Raises when it belongs to another role, which could drop what is built
// in it.
bool schema_exists(const std::string &name, Oid owner) {
    const pg::Result found =
        pg::query("SELECT nspowner::bigint FROM pg_namespace WHERE nspname = $1", {name});
    if (found.empty())
        return false;
    const Oid other = found.rows.front().oid(0);
    if (other != owner)
        pg::raise(pg::sqlcode::kObjectInUse,
                  fmt::format("schema \"{}\" belongs to role \"{}\"", name, pg::role_name(other)), "",
                  "Drop or rename the schema.");
    return true;
}

// Revokes what ALTER DEFAULT PRIVILEGES has granted on the new schema: with a privilege on it a role
// could make a view on a shadow, which would keep that from being dropped.
void create_schema(const std::string &schema) {
    pg::execute(fmt::format("CREATE SCHEMA {}", schema));
    const pg::Result granted = pg::query(R"SQL(
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_namespace AS n
        CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
        WHERE n.nspname = $1 AND a.grantee <> n.nspowner
    )SQL",
                                         {schema});
    for (const pg::Row &row : granted.rows)
        pg::execute(fmt::format("REVOKE ALL ON SCHEMA {} FROM {} CASCADE", schema, row.text(0)));
}

} // namespace

std::string new_schema(std::int64_t job) {
    return fmt::format("backfill_{}_new", job);
}
std::string old_schema(std::int64_t job) {
    return fmt::format("backfill_{}_old", job);
}

void make_schemas(std::int64_t job) {
    const pg::AsExtensionOwner as_owner;
    // Two workers of the job may need the schemas at once; the second waits for the first to commit,
    // which happens without a wait.
    locks::lock_schemas(job);
    pg::command_counter_increment();
    for (const auto &schema : {new_schema(job), old_schema(job)})
        if (!schema_exists(schema, as_owner.extension().owner))
            create_schema(schema);
}

bool try_make_schemas(std::int64_t job) {
    // Longest wait for the end of a transaction that makes a schema of that name.
    constexpr std::chrono::milliseconds kLongestWait{10};
    constexpr int kDuplicateSchema = pg::sqlstate("42P06");
    pg::Subtransaction subtransaction;
    try {
        const locks::BoundedWaits bounded(kLongestWait);
        make_schemas(job);
    } catch (const pg::Error &error) {
        if (error.code() != pg::sqlcode::kObjectInUse && error.code() != kDuplicateSchema &&
            error.code() != pg::sqlcode::kUniqueViolation && error.code() != pg::sqlcode::kLockNotAvailable)
            throw;
        return false;
    }
    subtransaction.commit();
    return true;
}

void ensure_schemas(std::int64_t job, const catalog::Leaf &leaf) {
    // Roles that will own objects in the schemas.
    std::vector<Oid> roles{pg::current_role(), leaf.owner};
    for (const pg::Row &row :
         pg::query("SELECT DISTINCT stxowner::bigint FROM pg_statistic_ext WHERE stxrelid = $1", {leaf.oid})
             .rows)
        roles.push_back(row.oid(0));
    make_schemas(job);
    const pg::AsExtensionOwner as_owner;
    for (const auto &schema : {new_schema(job), old_schema(job)})
        for (const Oid role : roles)
            if (!pg::query_row("SELECT has_schema_privilege($1::oid, $2, 'CREATE')", {role, schema})
                     .boolean(0) ||
                !pg::query_row("SELECT has_schema_privilege($1::oid, $2, 'USAGE')", {role, schema})
                     .boolean(0))
                pg::execute(fmt::format("GRANT USAGE, CREATE ON SCHEMA {} TO {}", schema,
                                        pg::quote_identifier(pg::role_name(role))));
}

bool has_schemas(std::int64_t job) {
    const pg::AsExtensionOwner as_owner;
    return !pg::query("SELECT FROM pg_namespace WHERE nspname IN ($1, $2) AND nspowner = $3",
                      {new_schema(job), old_schema(job), as_owner.extension().owner})
                .empty();
}

void drop_empty_schemas(std::int64_t job) {
    const pg::AsExtensionOwner as_owner;
    for (const auto &schema : {new_schema(job), old_schema(job)}) {
        const pg::Result empty = pg::query(R"SQL(
            SELECT FROM pg_namespace AS n
            WHERE n.nspname = $1 AND n.nspowner = $2
              AND NOT EXISTS (SELECT FROM pg_depend AS d
                              WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid)
        )SQL",
                                           {schema, as_owner.extension().owner});
        if (!empty.empty())
            pg::execute(fmt::format("DROP SCHEMA {} RESTRICT", schema));
    }
}

} // namespace partbackfill::shadow
