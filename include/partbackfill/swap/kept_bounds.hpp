// The bounds constraint of a kept table that is to come back.
#pragma once

#include <vector>

#include "partbackfill/swap/method.hpp"

namespace partbackfill::swap {

// Runs the next step of giving the kept table (request.shadow) the bounds constraint of the partition as it
// is now, checked for all of its rows; complete when it has it, or needs none. Locks the tables above the
// partition and the partition ACCESS SHARE, the kept table ACCESS EXCLUSIVE for a moment, or SHARE UPDATE
// EXCLUSIVE for a scan, then without the others; politely. Raises when a row is out of the bounds.
Preparation adopt_bounds(const SwapRequest &request, const catalog::Leaf &leaf,
                         std::vector<locks::TableLock> &locks);

} // namespace partbackfill::swap
