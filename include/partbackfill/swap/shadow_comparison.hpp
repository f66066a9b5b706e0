// Whether a shadow is defined like the partition whose place it takes. A difference may come from an event
// trigger, a hook of an extension, or the owner. Each function needs a PinnedSettings scope, takes no lock,
// and names the first differences in its error.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::swap {

// Raises when the finished shadow of the attach method differs from the leaf in a part of the definition
// that comes with the shadow. No lock keeps the leaf as it is: once there is a difference, `live_unchanged`
// tells whether it is one from the leaf that the shadow was made like.
void check_same_as_live(const catalog::Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs,
                        const std::function<bool()> &live_unchanged);

// Raises when the shadow of the attach method, prepared for the swap, has other foreign keys than the leaf.
void check_same_keys(const catalog::Leaf &leaf, Oid shadow);

// The definition of a partition, a line for each part, without the parts that the attach method refuses.
std::vector<std::string> definition_of(Oid partition, const std::vector<Oid> &proofs);

// Raises when the partition that has taken the leaf's place is not defined as the leaf was.
void check_definition(const catalog::Leaf &leaf, Oid partition, const std::vector<std::string> &before);

// Raises when the rows of the storage method's shadow were checked for less than those of the leaf are, or
// when its files would bring along what the leaf does not have.
void check_contents(const catalog::Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs, bool is_bounded);

} // namespace partbackfill::swap
