// Tidying up: after one partition, and at the end of a job.
#pragma once

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Drops the old partition, which readers no longer see, unless it is kept, and the marks of writes.
// The end of the job drops an old partition that sessions still use.
void tidy_partition(const job::Job &job, const job::Partition &partition);

// Ends a job in which nothing is left to do: drops its leftovers, a lock on one table at a time, and
// marks it. An error of contention when one of them is in use: the job shows what it waits for.
void end_job(const job::Job &job);

} // namespace partbackfill::worker
