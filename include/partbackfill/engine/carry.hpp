// What LIKE leaves behind and a shadow must have: extended statistics, row
// security, triggers, constraints that are not valid, publications.
//
// Each of the functions needs a PinnedSettings scope.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// With the shadow still empty: statistics targets and statistics objects, which
// its ANALYZE fills.
void carry_statistics(std::int64_t job, const Leaf &leaf);
// Whose these are and what is said of them, where they take the place of the
// leaf's.
void carry_statistics_owners(std::int64_t job, const Leaf &leaf);
void leave_out_invalid_constraints(std::int64_t job, const Leaf &leaf, const std::vector<Oid> &proofs);

// Once it is loaded: what would be in the way of the load.
void carry_after_load(std::int64_t job, const Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs);

// Statements for the swap, read from the live partition before it is moved away.
struct SwapExtras {
    std::vector<std::string> before_move; // on both, where they are
    std::vector<std::string> after_attach;
};
SwapExtras swap_extras(std::int64_t job, const Leaf &leaf);

} // namespace partbackfill::engine
