#include "partbackfill/process/worker_slot.hpp"

#include "partbackfill/locks/advisory_locks.hpp"

namespace partbackfill::process {

// Takes the lowest free slot that is lower than the one in hand.
bool WorkerSlot::find(const job::Job &job) {
    for (int slot = 1; slot <= job.workers && (slot_ == 0 || slot < slot_); slot++)
        if (locks::try_worker_slot(job.id, slot)) {
            leave(job.id);
            slot_ = slot;
            return true;
        }
    return false;
}

void WorkerSlot::leave(std::int64_t job) {
    if (slot_ != 0)
        locks::release_worker_slot(job, slot_);
    slot_ = 0;
}

bool WorkerSlot::is_wanted(const job::Job &job) {
    return (slot_ != 0 && slot_ <= job.workers) || find(job);
}

} // namespace partbackfill::process
