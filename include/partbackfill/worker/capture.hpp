// The step that makes the write capture on the live partition.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Makes the write capture, in a transaction of its own, unless it is there or on_write needs none.
// SHARE ROW EXCLUSIVE on the live partition for a moment, in whose queue the worker stands for no
// longer than lock_timeout: writers wait, readers do not.
StepResult capture_writes(const job::Job &job, job::Partition &partition);

} // namespace partbackfill::worker
