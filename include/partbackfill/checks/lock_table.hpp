// What the locks of a swap of many partitions in one transaction need.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::checks {

// Raises when the locks to swap the leaves in one transaction would fill the server's lock table, or
// nearly so. Needs a PinnedSettings scope. Takes no lock.
void check_room_for_locks(const std::vector<Oid> &leaves);

} // namespace partbackfill::checks
