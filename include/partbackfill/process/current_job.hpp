// The job of a worker, as its row is now.
#pragma once

#include <cstdint>
#include <optional>

#include "partbackfill/job/job.hpp"

namespace partbackfill::process {

// Each in a transaction of its own.

// Nothing when the job is gone, or the extension with it.
std::optional<job::Job> read_job(std::int64_t id);
// Whether a worker may take up a partition of the job.
bool has_work(std::int64_t id);

// Whether the cancel that ended a step was for the job, which does not run any more, and not for the
// statement only. Forgets the cancel.
bool was_stopped(std::int64_t id);

// Whether the current role is the one that started the job. A worker works for no other job, whose
// number could be the same after the extension was dropped and installed again. (A canceled job is
// tidied as the role that canceled it.)
bool is_own(const job::Job &job);

} // namespace partbackfill::process
