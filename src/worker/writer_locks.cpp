#include "partbackfill/worker/writer_locks.hpp"

#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/worker/live_partition.hpp"

namespace partbackfill::worker {

StepOutcome await_swap_locks(const job::Job &job, const job::Partition &partition, job::Milliseconds moment,
                             std::vector<locks::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    const auto leaf = find_live(job, partition);
    if (!leaf)
        return StepOutcome::partition_gone;
    locks = method_of(job).tables_to_lock(*leaf, partition.shadow);
    return locks::wait_for_moment(locks, job.lock_timeout, moment) ? StepOutcome::done
                                                                   : StepOutcome::locks_not_granted;
}

StepOutcome lock_out_writers(const job::Job &job, const job::Partition &partition, job::Milliseconds limit,
                             std::vector<locks::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    const auto leaf = find_live(job, partition);
    if (!leaf)
        return StepOutcome::partition_gone;
    locks = method_of(job).locks_against_writers(*leaf);
    if (!locks::lock_politely(locks, limit))
        return StepOutcome::locks_not_granted;
    return find_live(job, partition) ? StepOutcome::done : StepOutcome::partition_gone;
}

} // namespace partbackfill::worker
