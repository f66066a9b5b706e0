#include "partbackfill/worker/creation.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/changed_columns.hpp"
#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/checks/row_keys.hpp"
#include "partbackfill/checks/row_triggers.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/load/loader.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/drop.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;

// The copy reads the partition and what is above it. Sessions that change the tree lock it from
// its root, and so does the worker.
std::vector<locks::TableLock> locks_to_copy(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    std::vector<locks::TableLock> locks = locks::share_ancestors(partition.live);
    locks.push_back({partition.live, locks::LockMode::access_share});
    return locks;
}

void make_shadow(const job::Job &job, job::Partition &partition, const catalog::Leaf &leaf) {
    const std::string constraint = catalog::constraint_text(leaf.oid);
    const std::vector<Oid> proofs = proofs_on(leaf.oid);
    // Before the copy is made: the swap finds what changes meanwhile.
    const std::string definition_digest = catalog::definition_digest(leaf.oid, kNoOid, proofs);
    const Oid shadow = method_of(job).create_shadow(job.id, leaf, proofs);
    const pg::AsExtensionOwner owner;
    job::PartitionTable(owner).record_shadow(partition, shadow, constraint, definition_digest,
                                             catalog::shadow_digest(shadow));
}

StepOutcome try_create(const job::Job &job, job::Partition &partition,
                       const std::vector<locks::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    const auto found = find_live(job, partition);
    if (!found)
        return StepOutcome::partition_gone;
    // The definition may have changed since the job began.
    checks::check_can_be_carried(*found, method_of(job));
    if (job.on_write == job::OnWrite::ignore || partition.revert_forced)
        checks::check_can_ignore_writes({found->oid});
    if (job::catches_up(job, partition))
        checks::check_can_catch_up(*found);
    if (!job.skip_triggers && !load::reads_own_rows(job.source_oid, found->oid))
        checks::check_row_triggers({found->oid});
    if (partition.is_restored() && !catalog::has_same_columns(found->oid, partition.kept))
        pg::raise(
            pg::sqlcode::kObjectNotInPrerequisiteState,
            fmt::format("partition \"{}\" has other columns than the table with its old rows", found->name));
    shadow::ensure_schemas(job.id, *found);
    if (!locks::lock_politely(locks, job.lock_timeout))
        return StepOutcome::locks_not_granted;
    const auto leaf = find_live(job, partition);
    if (!leaf)
        return StepOutcome::partition_gone;
    return locks::try_bounded(job.lock_timeout, [&] { make_shadow(job, partition, *leaf); })
               ? StepOutcome::done
               : StepOutcome::locks_not_granted;
}

} // namespace

StepResult create_shadow(const job::Job &job, job::Partition &partition) {
    throttle::show_phase(partition, throttle::Phase::creating);
    const auto asked = Clock::now();
    pg::Transaction transaction;
    if (partition.shadow != kNoOid && !drop_politely(job, partition.shadow))
        return {StepOutcome::locks_not_granted, locks_to_drop(job, partition.shadow), Clock::now() - asked};
    const auto locks = locks_to_copy(partition);
    const StepOutcome outcome = try_create(job, partition, locks);
    if (outcome == StepOutcome::locks_not_granted)
        return {outcome, locks, Clock::now() - asked};
    if (outcome == StepOutcome::partition_gone) {
        const pg::PinnedSettings pinned;
        skip(job, partition);
    }
    injection_point(InjectionPoint::created, partition);
    transaction.commit();
    return {outcome == StepOutcome::partition_gone ? StepOutcome::settled : outcome};
}

} // namespace partbackfill::worker
