// The definition of a table in one value to compare.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// Two digests of the catalog rows that define the leaf: one of their versions (identity and xmin), and one in
// which a row of pg_class or pg_index counts by its content, since REINDEX, VACUUM FULL, or a proof that
// comes and goes writes such a row again without any change of the definition. The rows are those of the leaf
// itself, its indexes and TOAST table, columns, defaults, constraints, triggers, policies, rules, statistics
// objects, comments, publications and dependent objects; and the parent's columns, constraints, indexes,
// triggers and DEFAULT partition. DDL on any of them changes the digest; VACUUM, ANALYZE and a new sibling do
// not. Dependent objects that are parts of the leaf's shadow do not count, and neither do the proofs on the
// leaf. Needs a PinnedSettings scope. No lock.
std::string definition_digest(Oid leaf, Oid shadow, const std::vector<Oid> &proofs);

// Whether the leaf is still defined as it was when `known` was its definition_digest. When only the versions
// differ, `known` becomes the present digest, so that the next comparison is quick.
bool matches_definition_digest(Oid leaf, Oid shadow, const std::vector<Oid> &proofs, std::string &known);

// Digest of the versions of the catalog rows that define a shadow: the table itself, TOAST table, indexes,
// columns, defaults, constraints, triggers (those of the write capture included), policies, rules, statistics
// objects, publications, and comments on the table and its columns. Needs a PinnedSettings scope. No lock.
std::string shadow_digest(Oid shadow);

} // namespace partbackfill::catalog
