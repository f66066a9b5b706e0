#include "partbackfill/checks/refusals.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/catalog/referring_keys.hpp"
#include "partbackfill/pg/notice.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::checks {

namespace {

// Another method that would rebuild all of the leaves.
std::string way_out(const std::vector<Oid> &leaves, const swap::SwapMethod &method) {
    for (const swap::SwapMethod *other : swap::swap_methods())
        if (other != &method && other->recommendation != nullptr && other->refusals(leaves).empty())
            return other->recommendation;
    return "What a swap cannot carry over is refused, so that it is not lost; backfill_plan shows every "
           "reason.";
}

[[noreturn]] void refuse(const catalog::Leaf &leaf, const swap::Hazard &reason,
                         const swap::SwapMethod &method, const char *leave_out = "") {
    pg::raise(pg::sqlcode::kFeatureNotSupported, fmt::format("cannot rebuild partition \"{}\"", leaf.name),
              fmt::format("It {}.", reason.text), way_out({leaf.oid}, method) + leave_out);
}

[[noreturn]] void refuse(const catalog::Target &target, const std::vector<swap::Hazard> &reasons,
                         const swap::SwapMethod &method) {
    const FirstReasons first = first_reasons(target, reasons);
    pg::raise(pg::sqlcode::kFeatureNotSupported,
              fmt::format("cannot rebuild {} partitions of \"{}\"", first.leaves.size(), target.name),
              first.lines,
              way_out(first.leaves, method) + " To leave partitions out, name the others in partitions.");
}

} // namespace

FirstReasons first_reasons(const catalog::Target &target, const std::vector<swap::Hazard> &reasons) {
    constexpr size_t kMostLines = 10;
    std::map<Oid, const swap::Hazard *> of_leaf;
    for (const swap::Hazard &reason : reasons)
        of_leaf.try_emplace(reason.leaf, &reason);
    FirstReasons first;
    std::vector<std::string> lines;
    for (const catalog::Leaf &leaf : target.leaves) {
        const auto reason = of_leaf.find(leaf.oid);
        if (reason == of_leaf.end())
            continue;
        first.leaves.push_back(leaf.oid);
        if (lines.size() < kMostLines)
            lines.push_back(fmt::format("Partition \"{}\" {}.", leaf.name, reason->second->text));
    }
    if (first.leaves.size() > kMostLines)
        lines.push_back(fmt::format("And {} more.", first.leaves.size() - kMostLines));
    first.lines = fmt::format("{}", fmt::join(lines, "\n"));
    return first;
}

namespace {

void check_refusals(const catalog::Target &target, const swap::SwapMethod &method) {
    const auto found = method.refusals(target.selected_oids());
    if (found.empty())
        return;
    const bool is_one = std::all_of(found.begin(), found.end(),
                                    [&](const swap::Hazard &h) { return h.leaf == found.front().leaf; });
    if (!is_one)
        refuse(target, found, method);
    for (const catalog::Leaf &leaf : target.leaves)
        if (leaf.oid == found.front().leaf)
            refuse(leaf, found.front(), method,
                   target.selected_oids().size() > 1
                       ? " To leave the partition out, name the others in partitions."
                       : "");
}

// Says which method is taken in place of the first, and why.
void notice_choice(const catalog::Target &target, const swap::SwapMethod &method,
                   const std::vector<swap::Hazard> &reasons) {
    const FirstReasons first = first_reasons(target, reasons);
    pg::notice(fmt::format("the partitions of \"{}\" will be swapped by '{}', not by '{}'", target.name,
                           method.name, swap::swap_methods().front()->name),
               first.lines, "");
}

// What each method refuses; once, where all refuse for the same reasons.
std::string lines_by_method(const catalog::Target &target, const std::vector<Refusals> &found) {
    const std::string first = first_reasons(target, found.front().reasons).lines;
    std::string lines;
    bool differ = false;
    for (const Refusals &refusals : found) {
        const std::string own = first_reasons(target, refusals.reasons).lines;
        differ = differ || own != first;
        lines += fmt::format("{}By swap => '{}':\n{}", lines.empty() ? "" : "\n", refusals.method->name, own);
    }
    return differ ? lines : first;
}

// No method carries all of the partitions.
[[noreturn]] void refuse_all(const catalog::Target &target, const std::vector<Refusals> &found) {
    std::set<Oid> refused;
    for (const Refusals &refusals : found)
        for (const swap::Hazard &reason : refusals.reasons)
            refused.insert(reason.leaf);
    std::string what = fmt::format("{} partitions of \"{}\"", refused.size(), target.name);
    for (const catalog::Leaf &leaf : target.leaves)
        if (refused.size() == 1 && refused.contains(leaf.oid))
            what = fmt::format("partition \"{}\"", leaf.name);
    pg::raise(pg::sqlcode::kFeatureNotSupported, "cannot rebuild " + what, lines_by_method(target, found),
              std::string("What a swap cannot carry over is refused, so that it is not lost; backfill_plan "
                          "shows every reason.") +
                  (target.selected_oids().size() > 1
                       ? " To leave partitions out, name the others in partitions."
                       : ""));
}

} // namespace

std::vector<Refusals> refusals_by_method(const std::vector<Oid> &leaves) {
    std::vector<Refusals> found;
    for (const swap::SwapMethod *method : swap::swap_methods())
        found.push_back({method, method->refusals(leaves)});
    return found;
}

const swap::SwapMethod &choose_method(const catalog::Target &target, const std::string &swap) {
    if (swap != swap::kAnyMethod) {
        const swap::SwapMethod &method = swap::swap_method(swap);
        check_refusals(target, method);
        return method;
    }
    const std::vector<Refusals> found = refusals_by_method(target.selected_oids());
    for (const Refusals &refusals : found)
        if (refusals.reasons.empty()) {
            if (&refusals != &found.front())
                notice_choice(target, *refusals.method, found.front().reasons);
            return *refusals.method;
        }
    refuse_all(target, found);
}

void check_can_be_carried(const catalog::Leaf &leaf, const swap::SwapMethod &method) {
    const auto found = method.refusals({leaf.oid});
    if (!found.empty())
        refuse(leaf, found.front(), method);
}

// The new rows of a build in which writers wait are committed by its swap: snapshots that are older see them
// only when they are frozen, as those of a heap are.
void check_can_block_writes(const std::vector<Oid> &leaves) {
    const pg::Result found = pg::query(R"SQL(
        SELECT c.relname, am.amname
        FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam
        WHERE c.oid = ANY ($1) AND am.amhandler <> 'heap_tableam_handler'::regproc
        ORDER BY c.oid
        LIMIT 1
    )SQL",
                                       {leaves});
    if (found.empty())
        return;
    const pg::Row &row = found.rows.front();
    pg::raise(pg::sqlcode::kFeatureNotSupported,
              fmt::format("cannot rebuild partition \"{}\" while writers wait", row.text(0)),
              fmt::format("It is stored by access method {}: readers that began before would see none of its "
                          "rows.",
                          pg::quote_identifier(row.text(1))),
              "Use on_write => 'rebuild' when few rows are written, or on_write => 'ignore'.");
}

void check_can_ignore_writes(const std::vector<Oid> &leaves) {
    const pg::Result found = pg::query(R"SQL(
        SELECT c.relname, COALESCE(up.conname, k.conname), k.conrelid::regclass::text
        FROM unnest($1::oid[]) AS leaf (oid)
        CROSS JOIN LATERAL )SQL" + catalog::referring_keys("leaf.oid") +
                                           R"SQL( AS k
        JOIN pg_class AS c ON c.oid = k.confrelid
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        ORDER BY c.oid, k.oid
        LIMIT 1
    )SQL",
                                       {leaves});
    if (found.empty())
        return;
    const pg::Row &row = found.rows.front();
    pg::raise(
        pg::sqlcode::kFeatureNotSupported,
        fmt::format("cannot rebuild partition \"{}\" with on_write => 'ignore'", row.text(0)),
        fmt::format(
            "It is referenced by foreign key {} of {}: a row that is added during the build and referred to "
            "would be lost.",
            pg::quote_identifier(row.text(1)), row.text(2)),
        "Use on_write => 'rebuild' or on_write => 'block'.");
}

} // namespace partbackfill::checks
