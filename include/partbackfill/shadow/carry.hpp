// Parts of a definition that LIKE leaves behind and a shadow must have: extended statistics, row
// security, triggers, constraints that are not valid, publications. Each function needs a
// PinnedSettings scope, and takes the locks of the statements that it runs on the shadow.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::shadow {

// Gives the shadow, which is in that schema of the job, the statistics targets and statistics objects, which
// ANALYZE fills.
void carry_statistics(const catalog::Leaf &leaf, const std::string &schema);

// Gives the statistics objects of the shadow the owners and comments of the leaf's.
void carry_statistics_owners(std::int64_t job, const catalog::Leaf &leaf);

// Drops from the empty shadow the constraints that are not valid: rows of the load may break
// them. carry_after_load adds them again.
void leave_out_invalid_constraints(std::int64_t job, const catalog::Leaf &leaf,
                                   const std::vector<Oid> &proofs);

// Gives the loaded shadow what would have been in the way of the load: triggers, row security,
// constraints that are not valid.
void carry_after_load(std::int64_t job, const catalog::Leaf &leaf, Oid shadow,
                      const std::vector<Oid> &proofs);

// Statements for the swap, read from the live partition before it is moved away.
struct SwapExtras {
    std::vector<std::string> before_move; // on both, where they are
    std::vector<std::string> to_old;      // on the old one, once it is in schema `aside`
    std::vector<std::string> after_attach;
};
// The shadow is in schema `from` of the job, and the live partition is moved into the other one first,
// `aside`.
SwapExtras swap_extras(std::int64_t job, const catalog::Leaf &leaf, const std::string &from,
                       const std::string &aside);

} // namespace partbackfill::shadow
