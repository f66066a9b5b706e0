#include "partbackfill/checks/preconditions.hpp"

#include <map>

#include <fmt/format.h>

#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::checks {

namespace {

constexpr const char *kWhyOwner =
    "A backfill replaces partitions of the table, as ALTER TABLE ... ATTACH PARTITION does.";

void check_owners(const catalog::Target &target) {
    catalog::check_owner("table", target.name, target.owner, kWhyOwner);
    for (const Oid table : target.descendants)
        catalog::check_owner("table", table, kWhyOwner);
    for (const catalog::Leaf &leaf : target.leaves)
        if (leaf.selected)
            catalog::check_owner("partition", leaf.name, leaf.owner, kWhyOwner);
}

void check_tablespace_privileges(const catalog::Target &target) {
    const pg::Result spaces = pg::query(R"SQL(
        SELECT DISTINCT s.spcname
        FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
        JOIN pg_tablespace AS s ON s.oid = c.reltablespace
        WHERE (c.oid = ANY ($1) OR i.indrelid = ANY ($1)) AND NOT has_tablespace_privilege(s.oid, 'CREATE')
        ORDER BY s.spcname
    )SQL",
                                        {target.selected_oids()});
    if (!spaces.empty())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "permission denied for tablespace " + pg::quote_identifier(spaces.rows.front().text(0)),
                  "A partition or one of its indexes is stored there.", "Grant CREATE on the tablespace.");
}

void check_names(const catalog::Target &target) {
    std::map<std::string, const catalog::Leaf *> seen;
    for (const catalog::Leaf &leaf : target.leaves) {
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
void check_index_names(const catalog::Target &target) {
    const pg::Result twice = pg::query(R"SQL(
        SELECT c.relname
        FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
        WHERE c.oid = ANY ($1) OR i.indrelid = ANY ($1)
        GROUP BY c.relname
        HAVING count(*) > 1
        ORDER BY c.relname
    )SQL",
                                       {target.selected_oids()});
    if (!twice.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot rebuild two partitions with indexes named \"{}\" in one job",
                              twice.rows.front().text(0)),
                  "They are in different schemas.", "Start a job for each, with the parameter partitions.");
}

// Statistics objects of the job's partitions stand in one schema, too.
void check_statistics_names(const catalog::Target &target) {
    const pg::Result twice = pg::query(R"SQL(
        SELECT s.stxname
        FROM pg_statistic_ext AS s
        WHERE s.stxrelid = ANY ($1)
        GROUP BY s.stxname
        HAVING count(*) > 1
        ORDER BY s.stxname
    )SQL",
                                       {target.selected_oids()});
    if (!twice.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot rebuild partitions with two statistics objects named \"{}\" in one job",
                              twice.rows.front().text(0)),
                  "They are in different schemas.", "Rename one of them, or start a job for each partition.");
}

} // namespace

void check_may_start(Oid target) {
    catalog::check_owner("table", target, kWhyOwner);
}

const swap::SwapMethod &check_preconditions(const catalog::Target &target, const std::string &swap) {
    check_owners(target);
    check_names(target);
    check_index_names(target);
    check_statistics_names(target);
    const swap::SwapMethod &method = choose_method(target, swap);
    method.check_privileges(target.selected_oids());
    check_tablespace_privileges(target);
    return method;
}

} // namespace partbackfill::checks
