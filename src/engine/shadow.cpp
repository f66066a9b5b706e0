#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/lmgr.h"
}

#include "partbackfill/engine/shadow.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/carry.hpp"
#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/definition.hpp"
#include "partbackfill/engine/foreign_keys.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/rights.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::engine {

namespace {

// Whether the schema is there. One of that name that is not ours is an error: its
// owner could drop what is built in it.
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

// The USING, WITH and TABLESPACE clauses of the leaf.
std::string storage_clauses(const Leaf &leaf) {
    return pg::query_row(R"SQL(
        SELECT ' USING ' || quote_ident(am.amname)
            || COALESCE(' WITH (' || options.list || ')', '')
            || COALESCE(' TABLESPACE ' || quote_ident(space.spcname), '')
        FROM pg_class AS c
        JOIN pg_am AS am ON am.oid = c.relam
        LEFT JOIN pg_class AS toast ON toast.oid = c.reltoastrelid
        LEFT JOIN pg_tablespace AS space ON space.oid = c.reltablespace
        CROSS JOIN LATERAL (
            SELECT string_agg(o.prefix || quote_ident(split_part(o.option, '=', 1)) || '='
                              || quote_literal(substr(o.option, strpos(o.option, '=') + 1)), ', ') AS list
            FROM (
                SELECT '' AS prefix, unnest(c.reloptions) AS option
                UNION ALL
                SELECT 'toast.', unnest(toast.reloptions)
            ) AS o
        ) AS options
        WHERE c.oid = $1
    )SQL",
                         {leaf.oid})
        .text(0);
}

// ALTER TABLE and COMMENT statements for what LIKE leaves out: the CLUSTER mark,
// the replica identity, the comment on the table.
std::vector<std::string> remaining_definition(const Leaf &leaf, const std::string &shadow) {
    const pg::Result result = pg::query(R"SQL(
        SELECT format('ALTER TABLE %s CLUSTER ON %I', $2, ic.relname)
        FROM pg_index AS i
        JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = $1 AND i.indisclustered AND i.indisvalid
        UNION ALL
        SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', $2,
                      CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
                           ELSE 'USING INDEX ' || quote_ident(ic.relname) END)
        FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisreplident
        LEFT JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE c.oid = $1 AND c.relreplident <> 'd' AND (c.relreplident <> 'i' OR i.indisvalid)
        UNION ALL
        SELECT format('COMMENT ON TABLE %s IS %L', $2, obj_description($1, 'pg_class'))
        WHERE obj_description($1, 'pg_class') IS NOT NULL
    )SQL",
                                        {leaf.oid, shadow});
    std::vector<std::string> statements;
    for (const pg::Row &row : result.rows)
        statements.push_back(row.text(0));
    return statements;
}

void set_owner(const Leaf &leaf, const std::string &shadow) {
    pg::execute(
        fmt::format("ALTER TABLE {} OWNER TO {}", shadow, pg::quote_identifier(pg::role_name(leaf.owner))));
}

// Nobody has a right on it but those who need one, whatever ALTER DEFAULT
// PRIVILEGES says: a view on a shadow would keep it from being dropped.
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
    // Two workers of the job may need them at once; the second waits for the
    // first to commit, which it does without waiting for anything.
    lock_schemas(job);
    pg::command_counter_increment();
    for (const auto &schema : {new_schema(job), old_schema(job)})
        if (!schema_exists(schema, as_owner.extension().owner))
            create_schema(schema);
}

bool try_make_schemas(std::int64_t job) {
    // For the end of a transaction that makes a schema of that name.
    constexpr std::chrono::milliseconds kLongestWait{10};
    constexpr int kDuplicateSchema = pg::sqlstate("42P06");
    pg::Subtransaction subtransaction;
    try {
        const BoundedWaits bounded(kLongestWait);
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

void ensure_schemas(std::int64_t job, const Leaf &leaf) {
    // Whoever is to own something there.
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

Oid create_shadow(std::int64_t job, const Leaf &leaf, const std::vector<Oid> &proofs) {
    const std::string schema = new_schema(job);
    const std::string shadow = pg::quote_qualified(schema, leaf.name);
    const std::string create = fmt::format("CREATE {}TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY "
                                           "EXCLUDING INDEXES EXCLUDING STATISTICS){}",
                                           leaf.persistence == 'u' ? "UNLOGGED " : "", shadow,
                                           leaf.qualified(), storage_clauses(leaf));
    {
        const pg::CallersPath path; // CHECK constraints are planned
        pg::execute(create);
    }
    const Oid oid = pg::query_row("SELECT $1::regclass::oid::bigint", {shadow}).oid(0);
    drop_copies_of_proofs(oid, proofs);
    copy_array_type_name(leaf.oid, oid);
    set_owner(leaf, shadow);
    copy_privileges(leaf.oid, oid);
    clone_indexes(leaf.oid, oid);
    for (const auto &statement : remaining_definition(leaf, shadow))
        pg::execute(statement);
    carry_statistics(job, leaf);
    carry_statistics_owners(job, leaf);
    leave_out_invalid_constraints(job, leaf, proofs);
    add_bounds_constraint(leaf.oid, oid);
    return oid;
}

namespace {

// Its schema, name and owner, and whether it has ever been live; no row when it is none of ours.
pg::Result find_own_table(std::int64_t job, Oid table) {
    return pg::query(R"SQL(
        SELECT n.nspname, c.relname, c.relowner::bigint, n.nspname = $3
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $1 AND n.nspname IN ($2, $3) AND NOT c.relispartition
    )SQL",
                     {table, new_schema(job), old_schema(job)});
}

} // namespace

void check_may_drop_own(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    for (const pg::Row &row : find_own_table(job, table).rows)
        if (row.boolean(3))
            check_may_drop(row.text(1), row.oid(2));
}

bool is_own_table(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    return !find_own_table(job, table).empty();
}

void drop_stray_statistics(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    const pg::Result objects = pg::query(R"SQL(
        SELECT format('DROP STATISTICS %I.%I', n.nspname, s.stxname)
        FROM pg_statistic_ext AS s
        JOIN pg_namespace AS n ON n.oid = s.stxnamespace
        WHERE s.stxrelid = $1 AND n.nspname IN ($2, $3)
    )SQL",
                                         {table, new_schema(job), old_schema(job)});
    for (const pg::Row &row : objects.rows)
        pg::execute(row.text(0));
}

bool drop_own_table(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    if (!is_own_table(job, table))
        return false;
    check_may_drop_own(job, table);
    drop_foreign_keys(table);
    pg::guard([&] { LockRelationOid(table, AccessExclusiveLock); });
    // Its name and its owner may have changed until then.
    const pg::Result found = find_own_table(job, table);
    if (found.empty())
        return false;
    check_may_drop_own(job, table);
    const pg::Row &row = found.rows.front();
    // The owner of its schema may, whoever owns it by now.
    const pg::AsExtensionOwner as_owner;
    pg::execute("DROP TABLE " + pg::quote_qualified(row.text(0), row.text(1)) + " RESTRICT");
    return true;
}

} // namespace partbackfill::engine
