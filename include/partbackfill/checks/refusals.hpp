// What a swap method cannot do to the partitions of a job without a loss. Each function
// needs a PinnedSettings scope, and takes no lock.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/swap/hazard.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill::checks {

// The first reason of each leaf that has one, for an error.
struct FirstReasons {
    std::vector<Oid> leaves;
    std::string lines; // "Partition ..." for each leaf, or for the first ones
};
FirstReasons first_reasons(const catalog::Target &target, const std::vector<swap::Hazard> &reasons);

// What each method refuses of the leaves, in the order of swap::swap_methods().
struct Refusals {
    const swap::SwapMethod *method;
    std::vector<swap::Hazard> reasons;
};
std::vector<Refusals> refusals_by_method(const std::vector<Oid> &leaves);

// The method of that name, when it can rebuild each selected leaf; for swap::kAnyMethod the first that
// can, with a NOTICE when it is not the first of all. Raises the reasons otherwise.
const swap::SwapMethod &choose_method(const catalog::Target &target, const std::string &swap);

// Raises the first reason for which the method cannot rebuild that leaf.
void check_can_be_carried(const catalog::Leaf &leaf, const swap::SwapMethod &method);

// Raises unless leaves can be rebuilt while writers wait, in one transaction from the build to the swap.
void check_can_block_writes(const std::vector<Oid> &leaves);

// Raises when a foreign key of another table refers to one of the leaves. The storage method
// keeps the key, and a row that is added without notice, and referred to, would be lost.
void check_can_ignore_writes(const std::vector<Oid> &leaves);

} // namespace partbackfill::checks
