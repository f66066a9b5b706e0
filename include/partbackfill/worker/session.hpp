// The session of a process of ours.
#pragma once

namespace partbackfill::worker {

// Whatever a role or a database has set must not end a step half-way, or change what
// a step sees.
void override_session();

} // namespace partbackfill::worker
