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
// a new sibling do not. Needs a PinnedSettings scope. No lock.
std::string fingerprint(Oid leaf);

// The same for a shadow and what decides which rows it may hold and how they are
// found: itself, its indexes, columns, defaults, constraints, triggers and
// statistics objects. Its guard's triggers are among them.
std::string shadow_digest(Oid shadow);

} // namespace partbackfill::engine
