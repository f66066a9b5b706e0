// The slot of a worker among those of its job.
#pragma once

#include <cstdint>

#include "partbackfill/job/job.hpp"

namespace partbackfill::process {

// A job has as many slots, numbered from 1, as it wants workers; a session lock holds one.
class WorkerSlot {
public:
    // Takes a slot, or a lower one when the worker's is above job.workers. False when there is none:
    // the job does not want the worker.
    bool is_wanted(const job::Job &job);
    void leave(std::int64_t job);
    // The session has lost its locks, the slot's included.
    void forget() noexcept { slot_ = 0; }

private:
    bool find(const job::Job &job);

    int slot_ = 0; // 0 is none
};

} // namespace partbackfill::process
