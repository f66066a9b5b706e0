// What a swap method cannot do without a loss, and what a user should know before.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

struct Hazard {
    Oid leaf = kNoOid;
    std::string text; // "has a row security policy"
};

// Reasons for which a selected leaf cannot be swapped by that method without
// losing something. Refusing is better than losing. Needs a PinnedSettings scope.
std::vector<Hazard> refusals(const Target &target, const std::string &method);
// Reasons of that kind, for the attach method, of a table that takes a leaf's place or has taken it.
std::vector<std::string> attach_refusals(Oid table);
// The leaves that the target's request means.
std::vector<Oid> selected_oids(const Target &target);

// What does not stop a job, but what a user should know before. Needs a
// PinnedSettings scope.
std::vector<Hazard> warnings(const Target &target);

// Raises the first such reason of a selected leaf, or of this one.
void check_refusals(const Target &target, const std::string &method);
void check_can_be_carried(const Leaf &leaf, const std::string &method);

// Raises when a foreign key of another table refers to one of the leaves: by the
// storage method the key stays, and a row that nobody noticed, to which it refers
// by then, would go.
void check_can_ignore_writes(const std::vector<Oid> &leaves);

} // namespace partbackfill::engine
