// The step that makes the shadow.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Makes the shadow, empty, in a transaction of its own; drops the one of an attempt that died.
// ACCESS SHARE on the live partition and on what is above it, for a moment and without standing in
// a queue for longer than lock_timeout.
StepResult create_shadow(const job::Job &job, job::Partition &partition);

} // namespace partbackfill::worker
