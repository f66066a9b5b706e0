// The loop of a worker: partition after partition, until its job has no work left.
#pragma once

#include <cstdint>

namespace partbackfill::worker {

// Works on the job until no worker of it has anything left to do, and ends the job when this worker
// is the last. Returns when the job is inactive, does not want the worker, or is not visible
// because the transaction that started it was rolled back.
void run_job(std::int64_t job);

} // namespace partbackfill::worker
