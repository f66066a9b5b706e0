// The function that SQL calls to see what a job would do.
#include "partbackfill/pg/server.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include <fmt/format.h>

#include "partbackfill/catalog/disk.hpp"
#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/checks/row_keys.hpp"
#include "partbackfill/checks/row_triggers.hpp"
#include "partbackfill/checks/shards.hpp"
#include "partbackfill/checks/warnings.hpp"
#include "partbackfill/core/quantity.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/load/source_plan.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/results.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill {

namespace {

// The text form of a text[].
std::optional<std::string> text_array(const std::vector<std::string> &values) {
    std::string text = "{";
    for (const auto &value : values) {
        text += text.size() > 1 ? ",\"" : "\"";
        for (const char c : value) {
            if (c == '"' || c == '\\')
                text += '\\';
            text += c;
        }
        text += '"';
    }
    return text + "}";
}

// Hazards of a leaf, and whether backfill_start would refuse it.
struct Verdict {
    bool refused = false;
    std::vector<std::string> hazards;
};

using Verdicts = std::map<Oid, Verdict>;

// The first method that refuses no leaf, which backfill_start takes, or else the one that refuses the
// fewest: without those leaves backfill_start would take it.
const checks::Refusals &least_refused(const std::vector<checks::Refusals> &by_method) {
    const auto count = [](const checks::Refusals &refusals) {
        std::set<Oid> leaves;
        for (const swap::Hazard &hazard : refusals.reasons)
            leaves.insert(hazard.leaf);
        return leaves.size();
    };
    return *std::min_element(by_method.begin(), by_method.end(),
                             [&](const auto &a, const auto &b) { return count(a) < count(b); });
}

Verdicts verdicts(const catalog::Target &target) {
    const pg::PinnedSettings pinned;
    Verdicts found;
    const std::vector<checks::Refusals> by_method = checks::refusals_by_method(target.selected_oids());
    const checks::Refusals &taken = least_refused(by_method);
    for (const checks::Refusals &refusals : by_method)
        for (const swap::Hazard &hazard : refusals.reasons) {
            Verdict &verdict = found[hazard.leaf];
            verdict.refused = verdict.refused || &refusals == &taken;
            verdict.hazards.push_back(fmt::format("{}: refused, it {}", refusals.method->name, hazard.text));
        }
    if (&taken != &by_method.front())
        for (const Oid leaf : target.selected_oids())
            found[leaf].hazards.push_back(
                fmt::format("{}: swap => '{}' is taken", swap::kAnyMethod, taken.method->name));
    for (const swap::Hazard &hazard : checks::warnings(target))
        found[hazard.leaf].hazards.push_back(hazard.text);
    return found;
}

void add_refusals_of_source(const catalog::Target &target, const load::Source &source, Verdicts &found) {
    if (!source.own_rows) {
        const pg::PinnedSettings pinned;
        for (const swap::Hazard &trigger : checks::row_triggers(target.selected_oids())) {
            found[trigger.leaf].refused = true;
            found[trigger.leaf].hazards.push_back("refused without skip_triggers, for trigger " +
                                                  pg::quote_identifier(trigger.text));
        }
    }
    for (const catalog::Leaf *leaf : load::leaves_without_rows(source, target)) {
        found[leaf->oid].refused = true;
        found[leaf->oid].hazards.emplace_back(
            "refused, source gives no rows where $1 or $2 is NULL, as the partition has no such bound");
    }
}

// What is said of on_write => 'catch_up', by leaf.
std::map<Oid, std::vector<std::string>> catch_up_texts(const catalog::Target &target,
                                                       const std::optional<load::Source> &source) {
    std::map<Oid, std::vector<std::string>> texts;
    for (swap::Hazard &hazard : checks::catch_up_hazards(target, source ? &*source : nullptr))
        texts[hazard.leaf].push_back(std::move(hazard.text));
    return texts;
}

// Whether the disk has room for what the job will write: a second copy of each partition, and
// with keep_old of all of them at once.
class DiskForecast {
public:
    void add(const catalog::Leaf &leaf, std::vector<std::string> &hazards) {
        for (const auto &[tablespace, bytes] : catalog::bytes_by_tablespace(leaf.oid)) {
            const auto volume = catalog::volume_of(tablespace);
            if (!volume)
                continue;
            const double usable = volume->free - kKeptFree * volume->size;
            const auto own = static_cast<double>(bytes);
            double &all = needed_[volume->device];
            all += own;
            if (own > usable)
                hazards.push_back(
                    fmt::format("disk: it needs {}, {} can be used unless min_free_disk is below 5%",
                                core::format_bytes(own), core::format_bytes(std::max(0.0, usable))));
            else if (all > usable)
                hazards.push_back(
                    fmt::format("disk: with keep_old the job has written {} by then, {} can be used",
                                core::format_bytes(all), core::format_bytes(usable)));
        }
    }

private:
    static constexpr double kKeptFree = 0.05; // min_free_disk as it is by default
    std::map<std::uint64_t, double> needed_;  // by device, of the partitions so far
};

std::string constraint_of(const catalog::Leaf &leaf) {
    const pg::PinnedSettings pinned;
    return catalog::constraint_text(leaf.oid);
}

// A constraint without its literals and numbers. Numbers in names stay.
std::string shape_of(const std::string &constraint) {
    const auto is_of_name = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c >= 0x80; };
    std::string shape;
    for (std::size_t at = 0; at < constraint.size();) {
        const std::size_t from = at;
        const char first = constraint[at++];
        if (first == '\'' || first == '"')
            at = std::min(constraint.find(first, at), constraint.size() - 1) + 1;
        else if (is_of_name(static_cast<unsigned char>(first)))
            while (at < constraint.size() && is_of_name(static_cast<unsigned char>(constraint[at])))
                at++;
        if (first != '\'' && std::isdigit(static_cast<unsigned char>(first)) == 0)
            shape.append(constraint, from, at - from);
    }
    return shape;
}

// Whether the source is computed whole for a leaf. Leaves whose constraints differ in literals only
// share the answer: the plan of each of thousands would take longer than all else.
class WholeReads {
public:
    WholeReads(const load::Source &source, const catalog::Target &target)
        : source_(source), target_(target) {}

    bool read_everything(const catalog::Leaf &leaf) {
        const std::string constraint = constraint_of(leaf);
        const auto [known, is_new] = answers_.try_emplace(shape_of(constraint), false);
        if (is_new)
            known->second = load::reads_everything(load::explain(source_, target_, leaf, constraint));
        return known->second;
    }

private:
    const load::Source &source_;
    const catalog::Target &target_;
    std::map<std::string, bool> answers_;
};

// Raises the errors of backfill_start for target, range and source. ACCESS SHARE on the
// partition tree and the source, until the function returns.
std::vector<pg::TextRow> plan_rows(Oid oid, const std::optional<std::string> &text,
                                   const catalog::Selection &selection) {
    catalog::check_may_read_tree(oid);
    const pg::Subtransaction always_rolled_back; // the caller keeps none of the locks
    catalog::Target target = catalog::inspect(oid, selection);
    catalog::check_may_read_tree(oid); // rights may have changed while the locks were waited for
    {
        const pg::PinnedSettings pinned;
        checks::check_shard(target);
    }
    std::optional<load::Source> source;
    if (text)
        source = load::check_source(*text, target);
    auto found = verdicts(target);
    if (source)
        add_refusals_of_source(target, *source, found);
    auto catch_up = catch_up_texts(target, source);

    std::vector<pg::TextRow> rows;
    int ordinal = 0;
    DiskForecast forecast;
    std::optional<WholeReads> whole;
    if (source)
        whole.emplace(*source, target);
    for (const bool selected : {true, false})
        for (const catalog::Leaf &leaf : target.leaves) {
            if (leaf.selected != selected)
                continue;
            Verdict &verdict = found[leaf.oid];
            if (selected && !verdict.refused && whole && whole->read_everything(leaf))
                verdict.hazards.emplace_back(
                    "source is computed whole for each partition: its bounds do not reach into it");
            if (selected)
                forecast.add(leaf, verdict.hazards);
            for (std::string &hazard : catch_up[leaf.oid])
                verdict.hazards.push_back(std::move(hazard));
            const char *action = !selected ? "skip" : verdict.refused ? "refuse" : "rebuild";
            rows.push_back({selected ? std::optional(std::to_string(++ordinal)) : std::nullopt,
                            std::to_string(leaf.oid), leaf.range_start, leaf.range_end, action,
                            std::to_string(leaf.rows), std::to_string(leaf.bytes),
                            text_array(verdict.hazards)});
        }
    return rows;
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_plan: a row for each partition; those outside the selection are skipped and have no
// ordinal. "refuse" means that backfill_start would refuse it by every method. A hazard begins with the
// method that it concerns, unless it concerns both.
PARTBACKFILL_FUNCTION(partbackfill_plan) {
    const pg::Arguments arguments(fcinfo);
    const locks::FirstVictim in_deadlocks;
    catalog::Selection selection;
    selection.range_start = arguments.optional_text(2, "range_start");
    selection.range_end = arguments.optional_text(3, "range_end");
    selection.partitions = arguments.optional_oids(4);
    selection.newest_first = arguments.boolean(5, "newest_first");
    return pg::return_rows(
        fcinfo, plan_rows(arguments.oid(0, "target"), arguments.optional_text(1, "source"), selection));
}
