// What a table's definition is, in one value to compare.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// A digest of the versions (identity and xmin) of the catalog rows that define
// the leaf: itself, its indexes and TOAST table, columns, defaults, constraints,
// triggers, policies, rules, statistics objects, comments, publications and
// whatever depends on it; and the parent's columns, constraints, indexes,
// triggers and DEFAULT partition. Any DDL on them changes it; VACUUM, ANALYZE and
// a new sibling do not. What depends on it as a part of its shadow, once there is
// one, does not count. Needs a PinnedSettings scope. No lock.
std::string fingerprint(Oid leaf, Oid shadow);

// The same for a shadow: itself, its indexes, columns, defaults, constraints,
// triggers, policies, statistics objects and publications, and the comments on it
// and its columns. Its guard's triggers are among them.
std::string shadow_digest(Oid shadow);

} // namespace partbackfill::engine
