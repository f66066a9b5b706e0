#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/lmgr.h"
}

#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/foreign_keys.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/own_tables.hpp"

namespace partbackfill::shadow {

namespace {

// Schema, name and owner of a table of the job's own, and whether it was live; no row for other tables.
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
            catalog::check_may_drop(row.text(1), row.oid(2));
}

bool is_own_table(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    return !find_own_table(job, table).empty();
}

void drop_stray_statistics(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    pg::execute_each(R"SQL(
        SELECT format('DROP STATISTICS %I.%I', n.nspname, s.stxname)
        FROM pg_statistic_ext AS s
        JOIN pg_namespace AS n ON n.oid = s.stxnamespace
        WHERE s.stxrelid = $1 AND n.nspname IN ($2, $3)
    )SQL",
                     {table, new_schema(job), old_schema(job)});
}

bool drop_own_table(std::int64_t job, Oid table) {
    const pg::PinnedSettings pinned;
    if (!is_own_table(job, table))
        return false;
    check_may_drop_own(job, table);
    drop_foreign_keys(table);
    pg::guard([&] { LockRelationOid(table, AccessExclusiveLock); });
    // Name and owner may have changed until the lock was granted.
    const pg::Result found = find_own_table(job, table);
    if (found.empty())
        return false;
    check_may_drop_own(job, table);
    const pg::Row &row = found.rows.front();
    // The owner of the schema may drop the table, whichever role owns that by now.
    const pg::AsExtensionOwner as_owner;
    pg::execute("DROP TABLE " + pg::quote_qualified(row.text(0), row.text(1)) + " RESTRICT");
    return true;
}

} // namespace partbackfill::shadow
