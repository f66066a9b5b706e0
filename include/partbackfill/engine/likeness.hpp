// Whether a shadow is defined like the partition whose place it takes, whatever made a difference: an event
// trigger, an extension's hook, its owner. Each function needs a PinnedSettings scope, takes no lock, and
// names the first differences in its error.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Raises when the finished shadow of the attach method differs from the leaf in anything that it brings
// along.
void check_likeness(const Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs);

// Everything that a partition is defined by, a line each, but for what the attach method refuses.
std::vector<std::string> definition_of(Oid partition, const std::vector<Oid> &proofs);

// Raises when the partition that took the leaf's place is not defined as the leaf was.
void check_definition(const Leaf &leaf, Oid partition, const std::vector<std::string> &before);

// Raises when the rows of the storage method's shadow were held to less than those of the leaf, or when
// something would go with its files that is not the leaf's.
void check_contents(const Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs, bool is_bounded);

} // namespace partbackfill::engine
