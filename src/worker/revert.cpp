#include "partbackfill/worker/revert.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/catalog/changed_columns.hpp"
#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/job/job_control.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/load/key_refresh.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

namespace {

using job::RevertBy;
using job::RevertedPartition;
using job::SwappedPartition;

constexpr std::size_t kNamed = 3; // partitions that an error names

// Keys that were logged since the swap; whether they are those of the rows as they are now.
struct Keys {
    bool usable = true;
    std::int64_t entries = 0;
};

Keys keys_of(const job::Job &job, Oid live) {
    const Oid table = job.on_write == job::OnWrite::catch_up ? shadow::key_log_of(job.id, live) : kNoOid;
    if (table == kNoOid)
        return {};
    const pg::KeepPlans keep;
    const auto key = catalog::find_row_key(live);
    const auto log = key ? shadow::find_key_log(job.id, live, *key) : std::nullopt;
    return {log && writes::logs_keys(job.id, live, *log), load::size_of_log(table).entries};
}

std::string transactions(int count) {
    return fmt::format("{}{} transaction{}", count >= writes::kEnoughMarks ? "at least " : "",
                       std::min(count, writes::kEnoughMarks), count == 1 ? "" : "s");
}

// An unlogged table is empty after a crash.
bool was_emptied(const SwappedPartition &partition) {
    return !pg::query("SELECT FROM pg_class AS c WHERE c.oid = $1 AND c.relpersistence = 'u' AND "
                      "pg_relation_size(c.oid) = 0 AND pg_relation_size($2::oid::regclass) > 0",
                      {partition.kept, partition.live})
                .empty();
}

// A view or function of the old rows, which keeps their table from being dropped; empty when there is none.
std::string dependent_of(Oid kept) {
    const pg::Result found = pg::query(R"SQL(
        SELECT COALESCE(r.ev_class::regclass::text, p.oid::regprocedure::text)
        FROM pg_depend AS d
        LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'n'
          AND (r.ev_class <> $1 OR p.oid IS NOT NULL)
        ORDER BY 1
        LIMIT 1
    )SQL",
                                       {kept});
    return found.empty() ? "" : found.rows.front().text(0);
}

// Why the old rows cannot come back over the new ones; empty when they can.
std::string objection(const job::Job &job, const SwappedPartition &partition, Keys &keys) {
    const writes::WriteBaseline now =
        writes::write_baseline(job.id, partition.live, pg::Read::active_snapshot);
    job::LaterWrites later;
    {
        const pg::AsExtensionOwner owner;
        later = job::RevertTable(owner).later_writes(job.id, partition.ordinal, now);
    }
    keys = keys_of(job, partition.live);
    if (catalog::columns_changed(later.columns, catalog::columns_of(partition.live)))
        return "its columns were changed";
    if (was_emptied(partition))
        return "its old rows, of an unlogged table, were lost in a crash";
    if (!later.noticed)
        return "writes to it were not noticed all the time";
    if (later.to_kept > 0)
        return fmt::format("{} wrote to its old rows", transactions(later.to_kept));
    if (later.to_live > 0)
        return fmt::format("{} wrote to it", transactions(later.to_live));
    if (keys.entries > 0 && !keys.usable)
        return "rows were written to it, and its key was changed";
    if (const std::string dependent = keys.entries > 0 ? dependent_of(partition.kept) : "";
        !dependent.empty())
        return fmt::format("rows were written to it, and {} depends on the table with its old rows",
                           dependent);
    return "";
}

std::vector<RevertedPartition> select(const job::Job &job, Oid partition) {
    std::vector<SwappedPartition> swapped;
    {
        const pg::AsExtensionOwner owner;
        swapped = job::RevertTable(owner).swapped(job.id);
    }
    std::vector<RevertedPartition> selected;
    const bool any_new = std::any_of(swapped.begin(), swapped.end(), [](const SwappedPartition &each) {
        return each.state == core::PartitionState::done;
    });
    for (SwappedPartition &each : swapped)
        if (partition != kNoOid ? each.live == partition || each.kept == partition
                                : (each.state == core::PartitionState::done) == any_new)
            selected.push_back({std::move(each)});
    if (!selected.empty())
        return selected;
    if (partition != kNoOid)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("partition \"{}\" was not swapped by backfill job {}, or was replaced since",
                              pg::query_row("SELECT $1::regclass::text", {partition}).text(0), job.id));
    pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
              fmt::format("backfill job {} has swapped no partition", job.id));
}

void check_kept(const job::Job &job, const std::vector<RevertedPartition> &selected) {
    std::vector<std::string> purged;
    std::vector<std::string> gone;
    for (const RevertedPartition &each : selected) {
        if (each.kept == kNoOid)
            purged.push_back(each.name);
        else if (!catalog::find_same_leaf(each.live, job.target, each.bound))
            gone.push_back(each.name);
    }
    if (!purged.empty())
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("the old rows of {} of {} partitions of backfill job {} are not kept",
                              purged.size(), selected.size(), job.id),
                  fmt::format("The first is {}.", purged.front()),
                  job.keep_old
                      ? "backfill_purge() drops them; a partition that has them can be reverted by itself."
                      : "Start a job with keep_old => true to be able to revert it.");
    if (!gone.empty())
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("partition \"{}\" is not the one that backfill job {} has swapped",
                              gone.front(), job.id),
                  "It was dropped, detached, given other bounds, or swapped by a later job since.",
                  "Revert the later job first.");
}

[[noreturn]] void raise_written(const job::Job &job, const std::vector<std::string> &written,
                                std::size_t all) {
    std::vector<std::string> named(written.begin(), written.begin() + std::min(written.size(), kNamed));
    if (written.size() > kNamed)
        named.push_back(fmt::format("and {} more", written.size() - kNamed));
    pg::raise(
        pg::sqlcode::kObjectInUse,
        fmt::format("{} of {} partitions of backfill job {} were written to or changed since", written.size(),
                    all, job.id),
        fmt::format("{}.", fmt::join(named, "; ")),
        fmt::format(
            "backfill_revert({}, force => true) leaves what was written with the new rows, which are kept "
            "beside.{}",
            job.id,
            job.on_write == job::OnWrite::catch_up
                ? ""
                : " Rows that are written after a swap come along when the job has on_write => 'catch_up'."));
}

} // namespace

std::vector<RevertedPartition> plan_revert(const job::Job &job, Oid partition, bool force) {
    // The rollback gives back the locks: the caller waits for workers that need these tables.
    const pg::Subtransaction always_rolled_back;
    const pg::SnapshotScope newest;
    const pg::PinnedSettings pinned;
    std::vector<RevertedPartition> selected = select(job, partition);
    check_kept(job, selected);
    std::vector<std::string> written;
    for (RevertedPartition &each : selected) {
        Keys keys;
        const std::string why = objection(job, each, keys);
        each.forced = !why.empty();
        if (each.forced)
            written.push_back(fmt::format("{}: {}", each.name, why));
        else if (keys.entries > 0)
            each.by = RevertBy::build;
    }
    if (!written.empty() && !force)
        raise_written(job, written, selected.size());
    return selected;
}

namespace {

// nullopt when the job cannot be reverted, which the caller of backfill_revert() finds out by itself.
std::optional<job::Job> begin(const process::Assignment &assignment) {
    pg::Transaction transaction;
    if (!pg::extension_usable())
        return std::nullopt;
    std::optional<job::Job> job;
    {
        const Oid role = pg::current_role();
        const pg::AsExtensionOwner owner;
        job::JobTable(owner).lock(assignment.job);
        job = job::JobTable(owner).find(assignment.job);
        if (!job || job->owner != role || !job->tidied || !core::can(job->state, core::JobEvent::revert))
            return std::nullopt;
    }
    const std::vector<RevertedPartition> partitions =
        plan_revert(*job, assignment.partition, assignment.force);
    shadow::make_schemas(job->id);
    {
        const bool together = job->publish != job::Publish::each && assignment.partition == kNoOid;
        const pg::AsExtensionOwner owner;
        job::JobControl(owner).revert(*job, together);
        job::RevertTable(owner).begin(*job, partitions, together);
        job = job::JobTable(owner).find(assignment.job);
    }
    transaction.commit();
    const bool builds = std::any_of(partitions.begin(), partitions.end(),
                                    [](const auto &each) { return each.by == RevertBy::build; });
    if (!builds)
        job->workers = 1;
    return job;
}

} // namespace

bool begin_revert(const process::Assignment &assignment) {
    std::optional<job::Job> job;
    try {
        job = begin(assignment);
    } catch (const pg::Error &error) {
        process::log_error(assignment.job, error.fields());
    }
    return !job || process::register_at_once(*job, job->workers, 0) > 0;
}

} // namespace partbackfill::worker
