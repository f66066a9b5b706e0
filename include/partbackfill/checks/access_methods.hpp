// What the table access methods of a job's partitions allow.
#pragma once

#include <cstdint>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill::checks {

// Raises when a partition cannot be rebuilt as it is stored: makes a shadow of one partition of each access
// method but the heap, in the schemas of the job, and rolls that back. `notices_writes`: whether the
// partition needs a trigger for each row. Needs a PinnedSettings scope. Locks on the partition as for a
// shadow, given back at once.
void check_access_methods(std::int64_t job, const catalog::Target &target, const swap::SwapMethod &method,
                          bool notices_writes);

} // namespace partbackfill::checks
