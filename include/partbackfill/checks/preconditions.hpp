// What a job is refused for as a whole, before it exists.
#pragma once

#include <string>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill::checks {

// Raises unless the current role may start a job on the table at all. Called before the
// partitions are looked at. Takes no lock on the table.
void check_may_start(Oid target);

// Raises on what would make the job fail later, as the current role: a table of another
// owner, no CREATE on a schema or a tablespace, two leaves of one name, anything that the
// method refuses. Returns the method: `swap` is its name, or swap::kAnyMethod. Needs a PinnedSettings
// scope.
const swap::SwapMethod &check_preconditions(const catalog::Target &target, const std::string &swap);

} // namespace partbackfill::checks
