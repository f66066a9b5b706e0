// The loop of a worker: partition after partition, until its job rests.
#pragma once

#include <cstdint>

namespace partbackfill::worker {

// Works on the job until nothing is left to do for any worker of it, and ends
// it when this worker is the last. Returns when the job rests or is not to be
// seen (its starter rolled back).
void run_job(std::int64_t job);

} // namespace partbackfill::worker
