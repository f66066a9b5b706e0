#include "partbackfill/engine/door.hpp"

#include <map>

#include <fmt/format.h>

#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/engine/rights.hpp"
#include "partbackfill/engine/swap.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

namespace {

constexpr const char *kWhyOwner =
    "A backfill replaces partitions of the table, as ALTER TABLE ... ATTACH PARTITION does.";

void check_owners(const Target &target) {
    check_owner("table", target.name, target.owner, kWhyOwner);
    for (const Oid table : target.descendants) {
        const pg::Row row =
            pg::query_row("SELECT relname, relowner::bigint FROM pg_class WHERE oid = $1", {table});
        check_owner("table", row.text(0), row.oid(1), kWhyOwner);
    }
    for (const Leaf &leaf : target.leaves)
        if (leaf.selected)
            check_owner("partition", leaf.name, leaf.owner, kWhyOwner);
}

void check_schema_privileges(const std::vector<Oid> &oids) {
    const pg::Result schemas = pg::query(R"SQL(
        SELECT DISTINCT n.nspname
        FROM pg_class AS c
        LEFT JOIN pg_statistic_ext AS s ON s.stxrelid = c.oid
        JOIN pg_namespace AS n ON n.oid IN (c.relnamespace, s.stxnamespace)
        WHERE c.oid = ANY ($1) AND NOT has_schema_privilege(n.oid, 'CREATE')
        ORDER BY n.nspname
    )SQL",
                                         {oids});
    if (!schemas.empty())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "permission denied for schema " + pg::quote_identifier(schemas.rows.front().text(0)),
                  "The rebuilt partition and its statistics objects have to be moved into the schemas of the "
                  "old ones.",
                  "Grant CREATE on the schema.");
}

void check_create_privileges(const Target &target, const std::string &method) {
    const auto oids = selected_oids(target);
    if (method == kAttachName)
        check_schema_privileges(oids);
    const pg::Result spaces = pg::query(R"SQL(
        SELECT DISTINCT s.spcname
        FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
        JOIN pg_tablespace AS s ON s.oid = c.reltablespace
        WHERE (c.oid = ANY ($1) OR i.indrelid = ANY ($1)) AND NOT has_tablespace_privilege(s.oid, 'CREATE')
        ORDER BY s.spcname
    )SQL",
                                        {oids});
    if (!spaces.empty())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "permission denied for tablespace " + pg::quote_identifier(spaces.rows.front().text(0)),
                  "A partition or one of its indexes is stored there.", "Grant CREATE on the tablespace.");
}

void check_names(const Target &target) {
    std::map<std::string, const Leaf *> seen;
    for (const Leaf &leaf : target.leaves) {
        if (!leaf.selected)
            continue;
        const auto [place, inserted] = seen.emplace(leaf.name, &leaf);
        if (!inserted)
            pg::raise(pg::sqlcode::kFeatureNotSupported,
                      fmt::format("cannot rebuild two partitions named \"{}\" in one job", leaf.name),
                      fmt::format("They are {} and {}.", place->second->qualified(), leaf.qualified()),
                      "Start a job for each, with the parameter partitions.");
    }
}

// Tables and indexes of the job's partitions stand in one schema for a while.
void check_index_names(const Target &target) {
    const pg::Result twice = pg::query(R"SQL(
        SELECT c.relname
        FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
        WHERE c.oid = ANY ($1) OR i.indrelid = ANY ($1)
        GROUP BY c.relname
        HAVING count(*) > 1
        ORDER BY c.relname
    )SQL",
                                       {selected_oids(target)});
    if (!twice.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot rebuild two partitions with indexes named \"{}\" in one job",
                              twice.rows.front().text(0)),
                  "They are in different schemas.", "Start a job for each, with the parameter partitions.");
}

// And so do their statistics objects.
void check_statistics_names(const Target &target) {
    const pg::Result twice = pg::query(R"SQL(
        SELECT s.stxname
        FROM pg_statistic_ext AS s
        WHERE s.stxrelid = ANY ($1)
        GROUP BY s.stxname
        HAVING count(*) > 1
        ORDER BY s.stxname
    )SQL",
                                       {selected_oids(target)});
    if (!twice.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot rebuild partitions with two statistics objects named \"{}\" in one job",
                              twice.rows.front().text(0)),
                  "They are in different schemas.", "Rename one of them, or start a job for each partition.");
}

} // namespace

void check_may_start(Oid target) {
    const pg::Result found = pg::query(
        "SELECT relname, relowner::bigint FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1",
        {target});
    for (const pg::Row &row : found.rows)
        check_owner("table", row.text(0), row.oid(1), kWhyOwner);
}

void check_at_door(const Target &target, const std::string &method) {
    check_owners(target);
    check_names(target);
    check_index_names(target);
    check_statistics_names(target);
    check_refusals(target, method);
    check_create_privileges(target, method);
}

} // namespace partbackfill::engine
