// The session of a process of ours.
#pragma once

#include <cstdint>

namespace partbackfill::worker {

// Whatever a role or a database has set must not end a step half-way, or change what
// a step sees.
void override_session();

// The session as it was when the caller started the job: his settings, and nothing
// that the source of a partition has set since.
void renew_session(std::int64_t job);

} // namespace partbackfill::worker
