// The step that makes a kept table fit for the exchange back.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Does nothing for a partition whose kept table does not come back by itself, or was made fit before. Each
// step in a transaction of its own, with locks on the kept table that are awaited politely, for a scan at
// most, and ACCESS SHARE on the live partition and the tables above it. When the kept table cannot come back
// as it is, its rows are queued to come back by a build, and the result is settled.
StepResult adopt_kept(const job::Job &job, job::Partition &partition);

// Has the rows of the kept table come back by a build.
void restore_by_build(const job::Job &job, job::Partition &partition, const std::string &reason);

} // namespace partbackfill::worker
