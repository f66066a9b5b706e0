#include "partbackfill/worker/adoption.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/job/revert_table.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/own_tables.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/swap.hpp"

namespace partbackfill::worker {

namespace {

void check_kept(const job::Job &job, const job::Partition &partition, const catalog::Leaf &leaf) {
    if (!shadow::is_own_table(job.id, partition.shadow))
        pg::raise(pg::sqlcode::kUndefinedTable,
                  fmt::format("the old rows of partition \"{}\" are not kept any more", partition.name));
    const catalog::RelationEntry kept = catalog::relation_entry(partition.shadow);
    if (kept.name != leaf.name || kept.schema != shadow::old_schema(job.id))
        pg::raise(pg::sqlcode::kUndefinedTable,
                  fmt::format("the partition is named \"{}\", the table with its old rows {}", leaf.name,
                              kept.qualified()));
}

// Locks of the last step keep the definitions as they are recorded.
swap::Preparation adopt_once(const job::Job &job, job::Partition &partition,
                             std::vector<locks::TableLock> &locks, bool &gone) {
    const pg::PinnedSettings pinned;
    const auto leaf = find_live(job, partition);
    gone = !leaf;
    if (gone)
        return swap::Preparation::complete;
    check_kept(job, partition, *leaf);
    if (partition.revert_forced)
        checks::check_can_ignore_writes({leaf->oid});
    shadow::ensure_schemas(job.id, *leaf);
    const swap::Preparation done = method_of(job).adopt(swap_request(job, partition), *leaf, locks);
    if (done != swap::Preparation::complete)
        return done;
    const std::string constraint = catalog::constraint_text(leaf->oid);
    const std::string definition =
        catalog::definition_digest(leaf->oid, partition.shadow, proofs_on(leaf->oid));
    const std::string digest = catalog::shadow_digest(partition.shadow);
    const pg::AsExtensionOwner owner;
    job::RevertTable(owner).adopted(partition, constraint, definition, digest);
    return done;
}

StepResult adopt_all(const job::Job &job, job::Partition &partition) {
    for (;;) {
        const auto asked = std::chrono::steady_clock::now();
        pg::Transaction transaction;
        std::vector<locks::TableLock> locks;
        bool gone = false;
        swap::Preparation done{};
        const bool free =
            locks::try_bounded(job.lock_timeout, [&] { done = adopt_once(job, partition, locks, gone); });
        if (gone)
            return {StepOutcome::partition_gone};
        if (!free || done == swap::Preparation::locks_not_granted)
            return {StepOutcome::locks_not_granted, locks, std::chrono::steady_clock::now() - asked};
        injection_point(InjectionPoint::adopting, partition);
        transaction.commit();
        if (done == swap::Preparation::complete)
            return {};
    }
}

} // namespace

StepResult adopt_kept(const job::Job &job, job::Partition &partition) {
    if (!partition.comes_back() || partition.built)
        return {};
    throttle::show_phase(partition, throttle::Phase::validating);
    try {
        return adopt_all(job, partition);
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled || locks::is_contention(error) ||
            error.code() == pg::sqlcode::kUndefinedTable)
            throw;
        partition.built = false;
        restore_by_build(job, partition,
                         error.fields().detail.empty() ? error.fields().message : error.fields().detail);
    }
    return {StepOutcome::settled};
}

void restore_by_build(const job::Job &job, job::Partition &partition, const std::string &reason) {
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::RevertTable(owner).restore(partition);
    }
    transaction.commit();
    process::log_line(job.id,
                      fmt::format("builds partition {} from its old rows: {}", partition.name, reason));
}

} // namespace partbackfill::worker
