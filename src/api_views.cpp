// The functions that SQL calls to look: the plan of a job, and what workers are
// doing now.
#include "partbackfill/pg/server.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "partbackfill/core/quantity.hpp"
#include "partbackfill/engine/disk.hpp"
#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/rights.hpp"
#include "partbackfill/engine/row_triggers.hpp"
#include "partbackfill/engine/source.hpp"
#include "partbackfill/engine/swap.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill {

namespace {

// A text[] in its text form.
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

// What is to be said of a leaf, and whether backfill_start with its default
// method would refuse it.
struct Verdict {
    bool refused = false;
    std::vector<std::string> hazards;
};

std::map<Oid, Verdict> verdicts(const engine::Target &target) {
    const pg::PinnedSettings pinned;
    std::map<Oid, Verdict> found;
    for (const std::string method : {engine::kAttachName, engine::kStorageName})
        for (const engine::Hazard &hazard : engine::refusals(target, method)) {
            Verdict &verdict = found[hazard.leaf];
            verdict.refused = verdict.refused || method == engine::kAttachName;
            verdict.hazards.push_back(method + ": refused, it " + hazard.text);
        }
    for (const engine::Hazard &hazard : engine::warnings(target))
        found[hazard.leaf].hazards.push_back(hazard.text);
    return found;
}

// Whether the disk has room for what the job will write: each partition once more,
// and with keep_old all of them at once.
class Room {
public:
    void look(const engine::Leaf &leaf, std::vector<std::string> &hazards) {
        for (const auto &[tablespace, bytes] : engine::bytes_by_tablespace(leaf.oid)) {
            const auto volume = engine::volume_of(tablespace);
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

std::string constraint_of(const engine::Leaf &leaf) {
    const pg::PinnedSettings pinned;
    return engine::constraint_text(leaf.oid);
}

// Errors as backfill_start raises them for target, range and source. ACCESS SHARE on the
// partition tree and the source, until it is done.
std::vector<pg::TextRow> plan_rows(Oid oid, const std::optional<std::string> &text,
                                   const engine::Selection &selection) {
    engine::check_may_read_tree(oid);
    const pg::Subtransaction always_rolled_back; // the caller keeps none of the locks
    const engine::Target target = engine::inspect(oid, selection);
    engine::check_may_read_tree(oid); // rights may have changed while the locks were waited for
    std::optional<engine::Source> source;
    if (text)
        source = engine::check_source(*text, target);
    auto found = verdicts(target);
    if (source && !source->own_rows) {
        const pg::PinnedSettings pinned;
        for (const engine::Hazard &trigger : engine::row_triggers(engine::selected_oids(target))) {
            found[trigger.leaf].refused = true;
            found[trigger.leaf].hazards.push_back("refused without skip_triggers, for trigger " +
                                                  pg::quote_identifier(trigger.text));
        }
    }
    if (source)
        for (const engine::Leaf *leaf : engine::leaves_without_rows(*source, target)) {
            found[leaf->oid].refused = true;
            found[leaf->oid].hazards.emplace_back(
                "refused, source gives no rows where $1 or $2 is NULL, as the partition has no such bound");
        }

    std::vector<pg::TextRow> rows;
    int ordinal = 0;
    Room room;
    for (const bool selected : {true, false})
        for (const engine::Leaf &leaf : target.leaves) {
            if (leaf.selected != selected)
                continue;
            Verdict &verdict = found[leaf.oid];
            if (selected && !verdict.refused && source &&
                engine::reads_everything(engine::explain(*source, target, leaf, constraint_of(leaf))))
                verdict.hazards.emplace_back(
                    "source is computed whole for each partition: its bounds do not reach into it");
            if (selected)
                room.look(leaf, verdict.hazards);
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

// backfill_plan: a row a partition; those outside the selection are skipped and
// have no ordinal. "refuse" is what backfill_start would do without swap =>
// 'storage'; hazards begin with the method that they concern, unless it is both.
PARTBACKFILL_FUNCTION(partbackfill_plan) {
    const pg::Arguments arguments(fcinfo);
    const engine::FirstVictim in_deadlocks;
    engine::Selection selection;
    selection.range_start = arguments.optional_text(2, "range_start");
    selection.range_end = arguments.optional_text(3, "range_end");
    selection.partitions = arguments.optional_oids(4);
    selection.newest_first = arguments.boolean(5, "newest_first");
    return pg::return_rows(
        fcinfo, plan_rows(arguments.oid(0, "target"), arguments.optional_text(1, "source"), selection));
}

// backfill_live: for the views. A row for each partition that a live worker of
// a job that the caller may see has in hand.
PARTBACKFILL_FUNCTION(partbackfill_live) {
    std::vector<job::ControlTables::LiveRow> found;
    {
        job::ControlTables control;
        found = control.live();
    }
    std::vector<pg::TextRow> rows;
    for (auto &row : found)
        if (job::may_stop(row.owner, row.target))
            rows.push_back(std::move(row.columns));
    return pg::return_rows(fcinfo, rows);
}

// backfill_without_worker: for the views, too. Jobs that nobody works on until
// backfill_resume is called.
PARTBACKFILL_FUNCTION(partbackfill_without_worker) {
    std::vector<job::ControlTables::Idle> jobs;
    {
        job::ControlTables control;
        jobs = control.jobs_without_worker();
    }
    std::vector<pg::TextRow> rows;
    for (const auto &idle : jobs)
        if (job::may_stop(idle.owner, idle.target))
            rows.push_back(
                {std::to_string(idle.job), fmt::format("no worker: call backfill_resume({})", idle.job)});
    return pg::return_rows(fcinfo, rows);
}

// backfill_may_see, backfill_may_act_as: for the views, which ask as the caller.
PARTBACKFILL_FUNCTION(partbackfill_may_see) {
    const pg::Arguments arguments(fcinfo);
    PG_RETURN_BOOL(job::may_stop(arguments.oid(0, "owner"), arguments.oid(1, "target")));
}

PARTBACKFILL_FUNCTION(partbackfill_may_act_as) {
    const pg::Arguments arguments(fcinfo);
    PG_RETURN_BOOL(pg::may_act_as(arguments.oid(0, "owner")));
}
