// A build that keeps writers out, from its snapshot to its swap.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/throttle/throttler.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Makes the steps from the build to the swap in one transaction and at full speed. EXCLUSIVE on what the
// method names (attach: the parent and the partition; storage: the partition) from before the
// snapshot: writers wait, readers do not. When readers keep the swap from its locks for a few short
// tries, all of it is rolled back and writers go on: a session that has read, and now waits to
// write, would wait for the worker, and the worker for it.
StepResult build_blocking_writers(const job::Job &job, job::Partition &partition,
                                  throttle::Throttler &throttler);

} // namespace partbackfill::worker
