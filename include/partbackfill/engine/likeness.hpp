// Whether a shadow is defined like the partition whose place it takes.
#pragma once

#include <vector>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Raises when the finished shadow of the attach method differs from the leaf in anything that it brings along, whatever
// made the difference: an event trigger, an extension's hook, its owner. It names the first differences. Needs a
// PinnedSettings scope. No lock.
void check_likeness(const Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs);

} // namespace partbackfill::engine
