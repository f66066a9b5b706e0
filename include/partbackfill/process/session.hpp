// The settings of a session of the extension's processes.
#pragma once

#include <cstdint>

namespace partbackfill::process {

// Overrides the settings of the role and the database that would end a step half-way, or change
// what a step sees.
void override_session();

// Sets the session back to the settings that the caller had when the job was started, without
// anything that the source of a partition has set since.
void renew_session(std::int64_t job);

} // namespace partbackfill::process
