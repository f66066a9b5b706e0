#include "partbackfill/job/revert_table.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "partbackfill/job/job_control.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/job/partition_row.hpp"

namespace partbackfill::job {

namespace {

// Marks of writes since the swap: those of the triggers that it made, and of a kept table's own.
constexpr const char *kLater =
    "w.job IN (c.job, -c.job) AND NOT pg_visible_in_snapshot(w.xid, c.build_snapshot)";

std::vector<std::string> ordinals_of(const std::vector<RevertedPartition> &partitions) {
    std::vector<std::string> ordinals;
    ordinals.reserve(partitions.size());
    for (const RevertedPartition &partition : partitions)
        ordinals.push_back(std::to_string(partition.ordinal));
    return ordinals;
}

core::PartitionEvent end_without(core::PartitionState before) {
    return before == core::PartitionState::done ? core::PartitionEvent::keep_new
                                                : core::PartitionEvent::keep_old;
}

// What ends with a revert.
constexpr const char *kNoRevert =
    ", reverts_from = NULL, revert_by = NULL, revert_forced = false, revert_snapshot = NULL, built = false, "
    "held = false, settling = "
    "false,"
    " claim = NULL, worker_pid = NULL, waiting_on = NULL, swap_since = NULL, not_before = NULL";

} // namespace

std::vector<SwappedPartition> RevertTable::swapped(std::int64_t job) const {
    std::vector<SwappedPartition> found;
    for (const pg::Row &row : run(R"SQL(
        SELECT c.ordinal, c.partition, c.partition_bound, c.state, COALESCE(c.new_oid, 0)::bigint AS live,
               COALESCE(o.oid, 0)::bigint AS kept
        FROM {s}.backfill_control AS c
        LEFT JOIN pg_class AS o ON o.oid = c.old_oid
        WHERE c.job = $1 AND c.state IN ('done', 'reverted')
        ORDER BY c.ordinal
    )SQL",
                                  {job}, pg::Read::active_snapshot)
                                  .rows) {
        SwappedPartition partition;
        partition.ordinal = static_cast<int>(row.integer("ordinal"));
        partition.name = row.text("partition");
        partition.bound = row.text("partition_bound");
        partition.state = core::partition_state(row.text("state"));
        partition.live = row.oid("live");
        partition.kept = row.oid("kept");
        found.push_back(std::move(partition));
    }
    return found;
}

LaterWrites RevertTable::later_writes(std::int64_t job, int ordinal, const writes::WriteBaseline &now) const {
    const pg::Row row = run(std::string(R"SQL(
        SELECT $3 AND c.capture_versions IS NOT DISTINCT FROM $4 AND c.build_snapshot IS NOT NULL AS noticed,
               COALESCE(c.live_columns, '') AS columns,
               (SELECT count(*) FROM {s}.backfill_write AS w WHERE w.partition = c.new_oid AND )SQL") +
                                kLater +
                                ") AS to_live, (SELECT count(*) FROM {s}.backfill_write AS w WHERE "
                                "w.partition = c.old_oid AND " +
                                kLater + R"SQL() AS to_kept
        FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2
    )SQL",
                            {job, ordinal, now.captured, now.trigger_versions}, pg::Read::active_snapshot)
                            .rows.at(0);
    return {row.boolean("noticed"), row.text("columns"), static_cast<int>(row.integer("to_live")),
            static_cast<int>(row.integer("to_kept"))};
}

void RevertTable::begin(const Job &job, const std::vector<RevertedPartition> &partitions,
                        bool together) const {
    for (const RevertedPartition &partition : partitions) {
        const bool by_build = partition.by == RevertBy::build;
        const auto to = core::next(partition.state,
                                   by_build ? core::PartitionEvent::restore : core::PartitionEvent::revert);
        try {
            if (run(R"SQL(
                UPDATE {s}.backfill_control
                SET state = $3, reverts_from = $4, revert_by = $5, revert_forced = $6, partition_oid = new_oid,
                    held = $7, revert_snapshot = CASE WHEN $6 THEN pg_current_snapshot() END, built = false, audited = false, audit_failed = false, attempts = 0, rebuilds = 0,
                    orphaned = 0, suspect = false, settling = false, swap_since = NULL, not_before = NULL,
                    waiting_on = NULL, claim = NULL, worker_pid = NULL, proof_oid = NULL, sqlstate = NULL, error = NULL
                WHERE job = $1 AND ordinal = $2 AND state = $4 AND old_oid IS NOT NULL
            )SQL",
                    {job.id, partition.ordinal, core::name(to), core::name(partition.state),
                     by_build ? kByBuild : kByExchange, partition.forced, together && !by_build})
                    .processed != 1)
                pg::raise(
                    pg::sqlcode::kObjectInUse,
                    fmt::format("partition \"{}\" was changed by another session just now", partition.name));
        } catch (const pg::Error &error) {
            if (error.code() != pg::sqlcode::kUniqueViolation)
                throw;
            raise_busy(partition.name, 0);
        }
    }
}

void RevertTable::adopted(Partition &partition, const std::string &constraint,
                          const std::string &definition_digest, const std::string &shadow_digest) const {
    change(partition, "built = true, partition_constraint = $4, definition_digest = $5, shadow_digest = $6",
           {constraint, definition_digest, shadow_digest});
    partition.built = true;
    partition.constraint = constraint;
    partition.definition_digest = definition_digest;
}

void RevertTable::restore(Partition &partition) const {
    move(partition, core::PartitionEvent::rebuild,
         ", revert_by = $6, built = false, held = false, swap_since = NULL, worker_pid = NULL, waiting_on = "
         "NULL",
         {kByBuild});
    partition.revert_by = RevertBy::build;
    partition.shadow = kNoOid;
}

void RevertTable::keep(Partition &partition, const pg::ErrorFields &error) const {
    const std::string text = pg::error_text(error);
    run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1",
        {partition.job, partition.name + ": " + text});
    move(partition, end_without(*partition.reverts_from),
         std::string(kNoRevert) + ", sqlstate = $6, error = $7, finished_at = clock_timestamp()",
         {pg::sqlstate_text(error.code), text});
}

void RevertTable::keep_all(const Job &job, const pg::ErrorFields *error) const {
    for (const core::PartitionState before : {core::PartitionState::done, core::PartitionState::reverted}) {
        const core::PartitionEvent event = end_without(before);
        run(std::string("UPDATE {s}.backfill_control SET state = $2") + kNoRevert +
                ", sqlstate = COALESCE($4, sqlstate), error = COALESCE($5, error)"
                " WHERE job = $1 AND reverts_from = $2 AND state = ANY ($3)",
            {job.id, core::name(before), core::sources(event),
             error != nullptr ? std::optional(pg::sqlstate_text(error->code)) : std::nullopt,
             error != nullptr ? std::optional(pg::error_text(*error)) : std::nullopt});
    }
}

// A job of which no partition has its new rows any more is reverted.
core::JobEvent RevertTable::end_of(const Job &job) const {
    if (*job.reverts_from == core::JobState::failed)
        return core::JobEvent::fail;
    if (*job.reverts_from == core::JobState::canceled)
        return core::JobEvent::cancel;
    return run("SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'done' LIMIT 1", {job.id})
                       .empty() &&
                   !run("SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'reverted' LIMIT 1",
                        {job.id})
                        .empty()
               ? core::JobEvent::reverted
               : core::JobEvent::finish;
}

int RevertTable::moved(std::int64_t job, const std::vector<RevertedPartition> &partitions) const {
    std::map<int, core::PartitionState> now;
    for (const SwappedPartition &partition : swapped(job))
        now.emplace(partition.ordinal, partition.state);
    return static_cast<int>(std::ranges::count_if(partitions, [&](const RevertedPartition &before) {
        const auto found = now.find(before.ordinal);
        return found != now.end() && found->second != before.state;
    }));
}

std::string RevertTable::first_error(std::int64_t job, const std::vector<RevertedPartition> &partitions,
                                     const std::string &since) const {
    const pg::Result found = run(R"SQL(
        SELECT partition || ': ' || error FROM {s}.backfill_control
        WHERE job = $1 AND ordinal = ANY ($2::integer[]) AND error IS NOT NULL AND finished_at >= $3::text::timestamptz ORDER BY ordinal LIMIT 1
    )SQL",
                                 {job, ordinals_of(partitions), since}, pg::Read::active_snapshot);
    return found.empty() ? "" : found.rows.front().text(0);
}

void give_up_revert(const pg::AsExtensionOwner &owner, const Job &job, const pg::ErrorFields *error) {
    const RevertTable table(owner);
    table.keep_all(job, error);
    JobControl(owner).end_revert(job, table.end_of(job), error);
}

} // namespace partbackfill::job
