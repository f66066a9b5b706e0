// Triggers that would change rows on their way into a partition.
#pragma once

#include <vector>

#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Enabled BEFORE ROW INSERT triggers of these leaves, their own and those of their
// parents: a load fires none, and columns that they fill would stay as the source gives
// them. Needs a PinnedSettings scope.
std::vector<Hazard> row_triggers(const std::vector<Oid> &leaves);

// Raises the first of them.
void check_row_triggers(const std::vector<Oid> &leaves);

} // namespace partbackfill::engine
