// Keeping writers out of a partition for its swap.
#pragma once

#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// How long writers may be kept out, where lock_timeout allows no waiting.
inline constexpr job::Milliseconds kShortestHold{20};

// Waits for up to `moment`, without queueing, for a moment in which the swap could have its locks:
// writers are not held for a swap that a reader keeps from them. `locks` are those that are asked for.
StepOutcome await_swap_locks(const job::Job &job, const job::Partition &partition, job::Milliseconds moment,
                             std::vector<locks::TableLock> &locks);

// Locks writers out to the end of the transaction: EXCLUSIVE on what the method names, in whose queue
// the worker stands for up to `limit`. Readers pass.
StepOutcome lock_out_writers(const job::Job &job, const job::Partition &partition, job::Milliseconds limit,
                             std::vector<locks::TableLock> &locks);

} // namespace partbackfill::worker
