#include "partbackfill/checks/row_keys.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "partbackfill/catalog/foreign_tables.hpp"
#include "partbackfill/catalog/referring_keys.hpp"
#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/notice.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::checks {

namespace {

constexpr const char *kRightOnlyIf =
    "right only if what the source gives for a key changes only in transactions "
    "that write that key";

// Why rows of a leaf cannot be deleted and inserted again, whatever its keys. What refers to them would
// act on that, or be left alone.
std::vector<swap::Hazard> unfit_tables(const std::vector<Oid> &leaves) {
    static const std::string sql = R"SQL(
        SELECT leaf.oid::bigint, reason.text
        FROM pg_class AS leaf
        CROSS JOIN LATERAL (
            SELECT 1, place.text FROM ()SQL" +
                                   catalog::foreign_table_reason("leaf.oid") + R"SQL() AS place (text)
            UNION ALL
            SELECT 1, 'is stored by access method ' || quote_ident(am.amname) || ', not heap'
            FROM pg_am AS am WHERE am.oid = leaf.relam AND am.amname <> 'heap'
            UNION ALL
            SELECT 2, 'is referenced by foreign key ' || quote_ident(root.conname) || ' of ' || k.conrelid::regclass::text
            FROM )SQL" + catalog::referring_keys("leaf.oid") +
                                   R"SQL( AS k
            CROSS JOIN LATERAL (
                -- A foreign key to a partitioned table has one of its own for each partition.
                WITH RECURSIVE up AS (
                    SELECT k.conname, k.conparentid
                    UNION ALL
                    SELECT p.conname, p.conparentid FROM up JOIN pg_constraint AS p ON p.oid = up.conparentid
                )
                SELECT up.conname FROM up WHERE up.conparentid = 0
            ) AS root
            WHERE pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        ) AS reason (step, text)
        WHERE leaf.oid = ANY ($1)
        ORDER BY leaf.oid, reason.step, reason.text
    )SQL";
    return swap::find_hazards(sql, {leaves});
}

std::vector<swap::Hazard> refusals_of(const std::vector<catalog::KeyFinding> &findings) {
    std::vector<swap::Hazard> refusals;
    for (const catalog::KeyFinding &finding : findings)
        if (!finding.key)
            refusals.push_back({finding.table, finding.reason});
    return refusals;
}

// A primary key helps where a key is what the first refused leaf lacks.
std::string way_out(const swap::Hazard &first) {
    return first.text.starts_with("has no ")
               ? "Use on_write => 'rebuild', or add a primary key; backfill_plan says what can be caught up "
                 "with."
               : "Use on_write => 'rebuild'; backfill_plan says what can be caught up with.";
}

[[noreturn]] void refuse(const std::string &what, const std::string &detail, const swap::Hazard &first) {
    pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
              fmt::format("cannot catch up with writes to {}", what), detail, way_out(first));
}

std::set<std::string> columns_of(const std::vector<catalog::KeyFinding> &findings) {
    std::set<std::string> names;
    for (const catalog::KeyFinding &finding : findings)
        if (finding.key)
            for (const catalog::KeyColumn &column : finding.key->columns)
                names.insert(column.name);
    return names;
}

// What backfill_plan says of a leaf. `inexact` are columns that the source does not give as they are.
std::string verdict_on(const catalog::KeyFinding &finding,
                       const std::map<std::string, std::string> &inexact) {
    if (!finding.key)
        return "catch_up: refused, it " + finding.reason;
    for (const catalog::KeyColumn &column : finding.key->columns)
        if (const auto found = inexact.find(column.name); found != inexact.end())
            return fmt::format("catch_up: refused, its key column {} {}", pg::quote_identifier(column.name),
                               found->second);
    return fmt::format("catch_up: by the key ({}) of index \"{}\"", finding.key->column_list(),
                       finding.key->index_name);
}

// What makes the promise of a job that catches up doubtful. A source that reads the table and gives
// other keys than those of the rows it reads changes rows whose keys are not written. `table` names it.
std::string doubt_of(const load::Source &source, const std::set<std::string> &key_columns,
                     const std::string &table) {
    if (source.combines_target)
        return "combines rows of " + table;
    for (const load::ResultColumn &column : source.columns)
        if (source.reads_target && key_columns.contains(column.name) && column.origin != column.name)
            return fmt::format("computes key column {} from rows of {}", pg::quote_identifier(column.name),
                               table);
    return "";
}

} // namespace

std::vector<catalog::KeyFinding> catch_up_keys(const std::vector<Oid> &leaves) {
    std::map<Oid, std::string> unfit; // the first reason
    for (swap::Hazard &reason : unfit_tables(leaves))
        unfit.try_emplace(reason.leaf, std::move(reason.text));
    std::vector<catalog::KeyFinding> findings = catalog::find_row_keys(leaves);
    for (catalog::KeyFinding &finding : findings)
        if (const auto found = unfit.find(finding.table); found != unfit.end())
            finding = {finding.table, std::nullopt, found->second};
    return findings;
}

std::set<std::string> check_can_catch_up(const catalog::Target &target) {
    const auto findings = catch_up_keys(target.selected_oids());
    const auto refusals = refusals_of(findings);
    if (refusals.empty())
        return columns_of(findings);
    if (refusals.size() == 1)
        for (const catalog::Leaf &leaf : target.leaves)
            if (leaf.oid == refusals.front().leaf)
                refuse(fmt::format("partition \"{}\"", leaf.name),
                       fmt::format("It {}.", refusals.front().text), refusals.front());
    const FirstReasons reasons = first_reasons(target, refusals);
    refuse(fmt::format("{} partitions of \"{}\"", reasons.leaves.size(), target.name), reasons.lines,
           refusals.front());
}

void check_can_catch_up(const catalog::Leaf &leaf) {
    const auto refusals = refusals_of(catch_up_keys({leaf.oid}));
    if (!refusals.empty())
        refuse(fmt::format("partition \"{}\"", leaf.name), fmt::format("It {}.", refusals.front().text),
               refusals.front());
}

std::vector<swap::Hazard> catch_up_hazards(const catalog::Target &target, const load::Source *source) {
    std::vector<catalog::KeyFinding> findings;
    {
        const pg::PinnedSettings pinned;
        findings = catch_up_keys(target.selected_oids());
    }
    std::map<std::string, std::string> inexact;
    std::string doubt;
    if (source != nullptr) {
        inexact = load::inexact_columns(source->columns, target.oid, columns_of(findings));
        doubt = doubt_of(*source, columns_of(findings), "the table");
    }
    std::vector<swap::Hazard> hazards;
    for (const catalog::KeyFinding &finding : findings) {
        hazards.push_back({finding.table, verdict_on(finding, inexact)});
        const bool refused = hazards.back().text.starts_with("catch_up: refused");
        if (!doubt.empty() && !refused)
            hazards.push_back({finding.table, fmt::format("catch_up: the source {}: catching up is {}", doubt,
                                                          kRightOnlyIf)});
    }
    return hazards;
}

void notice_doubt(const catalog::Target &target, const load::Source &source,
                  const std::set<std::string> &key_columns) {
    const std::string doubt = doubt_of(source, key_columns, fmt::format("\"{}\"", target.name));
    if (!doubt.empty())
        pg::notice("source " + doubt, fmt::format("Catching up is {}.", kRightOnlyIf),
                   "Otherwise use on_write => 'rebuild'.");
}

} // namespace partbackfill::checks
