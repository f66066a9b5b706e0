// The job of a worker, as its row is now.
#pragma once

#include <cstdint>
#include <optional>

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Each in a transaction of its own.

// Nothing when the job is gone, or the extension with it.
std::optional<job::Job> read_job(std::int64_t id);
// Whether a partition of the job is pending, running or ready.
bool has_work(std::int64_t id);

// Whether the current role is the one that started the job. A worker works for no other job, whose
// number could be the same after the extension was dropped and installed again. (A canceled job is
// tidied as the role that canceled it.)
bool is_own(const job::Job &job);

} // namespace partbackfill::worker
