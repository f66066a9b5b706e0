#include "partbackfill/load/source_plan.hpp"

#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/catalog/null_bounds.hpp"
#include "partbackfill/load/load_query.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::load {

std::string explain(const Source &source, const catalog::Target &target, const catalog::Leaf &leaf,
                    const std::string &constraint) {
    const AllRows all_rows;
    const pg::ReadOnlyScope read_only; // the planner calls functions
    const LoadQuery load = load_query(source.text, source.relation, target.key, leaf, constraint);
    const pg::Params bounds = key_params(target.key, leaf);
    const pg::CallersPath path;
    return pg::query_row("EXPLAIN (FORMAT JSON) " + load.sql, bounds).text(0);
}

std::vector<const catalog::Leaf *> leaves_without_rows(const Source &source, const catalog::Target &target) {
    std::map<std::pair<bool, bool>, bool> verdicts; // by which of the bounds are missing
    std::vector<const catalog::Leaf *> found;
    for (const catalog::Leaf &leaf : target.leaves) {
        const bool start = source.uses_start && !leaf.range_start;
        const bool end = source.uses_end && !leaf.range_end;
        if (!leaf.selected || (!start && !end))
            continue;
        const auto [verdict, is_new] = verdicts.try_emplace({start, end}, false);
        // Without the constraint: of a partition's own rows the source may rightly have none.
        if (is_new)
            verdict->second =
                catalog::needs_bounds(single_select(source.text), target.key->type, start, end) ||
                pg::query_row(R"SQL(
                SELECT pg_catalog.jsonb_path_exists($1::pg_catalog.jsonb, '$.** ? (@."One-Time Filter" == "false")')
            )SQL",
                              {explain(source, target, leaf, "true")})
                    .boolean(0);
        if (verdict->second)
            found.push_back(&leaf);
    }
    return found;
}

void raise_without_rows(const std::vector<const catalog::Leaf *> &leaves) {
    constexpr size_t kMostNames = 10;
    std::vector<std::string> names;
    for (size_t i = 0; i < leaves.size() && i < kMostNames; i++)
        names.push_back("\"" + leaves[i]->name + "\"");
    std::string list = fmt::format("{}", fmt::join(names, ", "));
    if (leaves.size() > kMostNames)
        list += fmt::format(" and {} more", leaves.size() - kMostNames);
    pg::raise(pg::sqlcode::kInvalidParameter, "source gives no rows where a partition has no bound",
              fmt::format("$1 or $2 is NULL for {}, and a condition on it is never true.", list),
              "Leave the condition out, since each partition gets only its own rows, or write "
              "($1 IS NULL OR key >= $1) AND ($2 IS NULL OR key < $2).");
}

bool reads_everything(const std::string &plan) {
    return pg::query_row(R"SQL(
        SELECT pg_catalog.jsonb_path_exists($1::jsonb,
            '$.** ? (@."Node Type" == "Subquery Scan" && @.Alias == "source" && exists(@.Filter))')
    )SQL",
                         {plan})
        .boolean(0);
}

} // namespace partbackfill::load
