// What a table's definition is, in one value to compare.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Two digests of the catalog rows that define the leaf: one of their versions (identity and xmin), and one by
// which a row of pg_class or pg_index counts for what it says, since REINDEX, VACUUM FULL, or a proof that
// comes and goes writes it again without any change of the definition. The rows are those of the leaf itself,
// its indexes and TOAST table, columns, defaults, constraints, triggers, policies, rules, statistics objects,
// comments, publications and whatever depends on it; and the parent's columns, constraints, indexes, triggers
// and DEFAULT partition. Any DDL on them changes it; VACUUM, ANALYZE and a new sibling do not. What depends
// on it as a part of its shadow, once there is one, does not count, nor do the proofs that are on it. Needs a
// PinnedSettings scope. No lock.
std::string fingerprint(Oid leaf, Oid shadow, const std::vector<Oid> &proofs);

// Whether the leaf is still defined as it was when `known` was its fingerprint. When only the versions
// differ, `known` becomes the present one, so that the next look is quick.
bool has_fingerprint(Oid leaf, Oid shadow, const std::vector<Oid> &proofs, std::string &known);

// The same for a shadow: itself, its indexes, columns, defaults, constraints,
// triggers, policies, statistics objects and publications, and the comments on it
// and its columns. Its guard's triggers are among them.
std::string shadow_digest(Oid shadow);

} // namespace partbackfill::engine
