// What an exchange of files would lose of a partition. Refusing is better than losing.
#pragma once

#include <vector>

#include "partbackfill/swap/hazard.hpp"

namespace partbackfill::swap {

// Reasons for which the storage method cannot rebuild the leaves, in the order of leaf and
// text. Needs a PinnedSettings scope. No lock.
std::vector<Hazard> storage_refusals(const std::vector<Oid> &leaves);

} // namespace partbackfill::swap
