// Triggers that would change rows on their way into a partition.
#pragma once

#include <vector>

#include "partbackfill/swap/hazard.hpp"

namespace partbackfill::checks {

// Names of the enabled BEFORE ROW INSERT triggers of the leaves, those of their parents included:
// a load fires none, and columns that a trigger fills would stay as the source gives them. Needs
// a PinnedSettings scope.
std::vector<swap::Hazard> row_triggers(const std::vector<Oid> &leaves);

// Raises for the first such trigger. Needs a PinnedSettings scope.
void check_row_triggers(const std::vector<Oid> &leaves);

} // namespace partbackfill::checks
