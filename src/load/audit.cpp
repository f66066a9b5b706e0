#include "partbackfill/pg/server.hpp"

extern "C" {
#include "mb/pg_wchar.h"
}

#include <set>

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/load/audit.hpp"
#include "partbackfill/load/error_position.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::load {

namespace {

constexpr const char *kShadow = "shadow";
constexpr const char *kLive = "live";

std::string name_of(std::size_t number) {
    return fmt::format("audit {}", number);
}

// Errors of the server say which audit they are of.
template <class F>
auto naming_audit(std::size_t number, F &&step) {
    try {
        return step();
    } catch (const pg::Error &error) {
        pg::ErrorFields fields = error.fields();
        if (!fields.message.starts_with(name_of(number) + " "))
            fields.message = fmt::format("{}: {}", name_of(number), fields.message);
        throw pg::Error(std::move(fields));
    }
}

// The first row of the query. Planned to give all of its rows, since it is meant to give none: LIMIT
// alone would have the planner expect one soon. The newline ends a comment that the query may end with.
std::string first_row_of(const std::string &query) {
    return "WITH audit AS MATERIALIZED (" + query + "\n) SELECT * FROM audit LIMIT 1";
}

std::string filled_select(std::size_t number, const std::string &audit, const core::Placeholders &names) {
    return single_select(core::fill_placeholders(audit, names), name_of(number),
                         fmt::format("Audit {}", number));
}

void check_reads_only(std::size_t number, const ParsedQuery &parsed) {
    if (!parsed.temporary.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("audit {} depends on temporary {}", number, parsed.temporary),
                  "The job's workers cannot see the temporary objects of this session.");
    if (parsed.locks_rows)
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("audit {} must be a query that only reads", number),
                  fmt::format("Audit {} locks rows with FOR UPDATE or FOR SHARE.", number));
}

// Raises what the caller may not read, too.
void check_one(std::size_t number, const std::string &audit, const core::Placeholders &names) {
    const std::string query = filled_select(number, audit, names);
    showing_position_in(query, [&] {
        const std::string sql = first_row_of(query);
        check_reads_only(number, parse_query(sql, std::nullopt));
        const pg::ReadOnlyScope read_only; // the planner calls functions
        const pg::CallersPath path;
        pg::execute("EXPLAIN " + sql);
    });
}

// False when the leaf cannot stand for both the shadow and the live partition.
bool is_checked_with(std::size_t number, const std::string &audit, const catalog::Leaf &leaf) {
    const std::string name = leaf.qualified();
    pg::Subtransaction subtransaction;
    try {
        check_one(number, audit, audit_names(name, name, leaf.range_start, leaf.range_end));
    } catch (const pg::Error &error) {
        if (error.code() != pg::sqlcode::kDuplicateAlias)
            throw;
        return false;
    }
    subtransaction.commit();
    return true;
}

// The shadow and the live partition may stand side by side under their own names. One table may not:
// the parent is then taken for the shadow, and only parsed, since to plan it is to look at all partitions.
void check_with_leaf(std::size_t number, const std::string &audit, const catalog::Leaf &leaf) {
    if (is_checked_with(number, audit, leaf))
        return;
    const std::string parent = catalog::relation_entry(leaf.parent).qualified();
    const std::string query =
        filled_select(number, audit, audit_names(parent, leaf.qualified(), leaf.range_start, leaf.range_end));
    showing_position_in(query,
                        [&] { check_reads_only(number, parse_query(first_row_of(query), std::nullopt)); });
}

// The text up to a length in bytes, with an ellipsis in the place of the rest.
std::string cut(const std::string &text, std::size_t most) {
    if (text.size() <= most)
        return text;
    const int kept = pg::guard(
        [&] { return pg_mbcliplen(text.data(), static_cast<int>(text.size()), static_cast<int>(most)); });
    return text.substr(0, static_cast<std::size_t>(kept)) + "...";
}

std::string text_of(const pg::Row &row) {
    constexpr std::size_t kLongestValue = 200;
    constexpr std::size_t kLongestRow = 4000;
    std::string text;
    for (std::size_t i = 0; i < row.size() && text.size() < kLongestRow; i++)
        text += fmt::format("{}{} = {}", i > 0 ? ", " : "", row.name(i),
                            row.is_null(i) ? "NULL" : cut(*row.field(i), kLongestValue));
    return cut(text, kLongestRow);
}

} // namespace

core::Placeholders audit_names(const std::string &shadow, const std::string &live,
                               const std::optional<std::string> &range_start,
                               const std::optional<std::string> &range_end) {
    const auto literal = [](const std::optional<std::string> &bound) {
        return bound ? pg::quote_literal(*bound) : "NULL";
    };
    return {{kShadow, shadow},
            {kLive, live},
            {"range_start", literal(range_start)},
            {"range_end", literal(range_end)}};
}

bool reads_live(const std::string &audit) {
    return audit.find(fmt::format("{{{}}}", kLive)) != std::string::npos;
}

// Partitions differ in which of their bounds are NULL only.
void check_audits(const std::vector<std::string> &audits, const catalog::Target &target) {
    if (audits.empty())
        return;
    const AllRows all_rows;
    std::set<std::pair<bool, bool>> checked;
    for (const catalog::Leaf &leaf : target.leaves) {
        if (!leaf.selected ||
            !checked.emplace(leaf.range_start.has_value(), leaf.range_end.has_value()).second)
            continue;
        for (std::size_t i = 0; i < audits.size(); i++)
            naming_audit(i + 1, [&] { check_with_leaf(i + 1, audits[i], leaf); });
    }
}

std::optional<std::string> audited_row(std::size_t number, const std::string &audit,
                                       const core::Placeholders &names) {
    return naming_audit(number, [&]() -> std::optional<std::string> {
        const std::string query = filled_select(number, audit, names);
        const AllRows all_rows;
        const pg::ReadOnlyScope read_only;
        const pg::SnapshotScope snapshot;
        const pg::CallersPath path;
        const pg::Result found = pg::query(first_row_of(query), {}, pg::Read::active_snapshot);
        return found.empty() ? std::nullopt : std::optional(text_of(found.rows.front()));
    });
}

} // namespace partbackfill::load
