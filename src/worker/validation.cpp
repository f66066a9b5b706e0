#include "partbackfill/worker/validation.hpp"

#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/job/write_table.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/swap.hpp"

namespace partbackfill::worker {

namespace {

enum class Shows { phase, nothing };

// What is to be prepared: other tables than the shadow, the filled shadow, or both.
enum class Scope { others, shadow, both };

// Makes the next step, if any is left, within the caller's transaction.
swap::Preparation prepare_next(const job::Job &job, job::Partition &partition,
                               std::vector<locks::TableLock> &locks, Shows shows, Scope scope) {
    const pg::PinnedSettings pinned;
    const auto leaf = find_live(job, partition);
    if (!leaf)
        return swap::Preparation::complete; // the swap finds that it is gone
    const auto &method = method_of(job);
    swap::SwapRequest request = swap_request(job, partition);
    const bool others = scope != Scope::shadow && !method.prepared(request, *leaf);
    if (!others && (scope == Scope::others || method.shadow_prepared(request, *leaf)))
        return swap::Preparation::complete;
    if (shows == Shows::phase)
        throttle::show_phase(partition, throttle::Phase::validating);
    const swap::Preparation preparation =
        others ? method.prepare(request, *leaf, locks) : method.prepare_shadow(request, *leaf, locks);
    if (preparation != swap::Preparation::again)
        return preparation;
    if (!others)
        record_shadow_digest(partition);
    if (request.proof != partition.proof) {
        const pg::AsExtensionOwner owner;
        job::PartitionTable(owner).record_proof(partition, request.proof);
    }
    return preparation;
}

// Each step in a pg::Transaction, or in a pg::Subtransaction of the caller's.
template <class Transaction>
StepResult prepare_all(const job::Job &job, job::Partition &partition, Shows shows, Scope scope) {
    for (;;) {
        const auto asked = std::chrono::steady_clock::now();
        Transaction transaction;
        std::vector<locks::TableLock> locks;
        switch (prepare_next(job, partition, locks, shows, scope)) {
        case swap::Preparation::complete:
            return {};
        case swap::Preparation::shadow_changed:
            return {StepOutcome::shadow_changed};
        case swap::Preparation::locks_not_granted:
            return {StepOutcome::locks_not_granted, locks, std::chrono::steady_clock::now() - asked};
        case swap::Preparation::again:
            break;
        }
        injection_point(InjectionPoint::validating, partition);
        transaction.commit();
    }
}

} // namespace

StepResult validate(const job::Job &job, job::Partition &partition) {
    const bool is_filled = partition.state != core::PartitionState::running;
    return prepare_all<pg::Transaction>(job, partition, Shows::phase,
                                        is_filled ? Scope::both : Scope::others);
}

StepResult validate_in_blocking_build(const job::Job &job, job::Partition &partition) {
    // The swap finds whether what was prepared of other tables still holds.
    return prepare_all<pg::Subtransaction>(job, partition, Shows::nothing, Scope::shadow);
}

void record_shadow_digest(const job::Partition &partition) {
    const std::string digest = catalog::shadow_digest(partition.shadow);
    const pg::AsExtensionOwner owner;
    job::WriteTable(owner).record_shadow_digest(partition, digest);
}

} // namespace partbackfill::worker
