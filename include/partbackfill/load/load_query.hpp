// The query that a build of a partition runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::load {

// The source as it stands in FROM, named "source".
std::string from_clause(const std::string &text, Oid relation);

// The source in FROM as a build reads it: literals without a type are given that of the
// table's column, as INSERT gives it, below the partition's constraint, which may be about
// them.
std::string typed_from_clause(const std::string &text, Oid relation,
                              const std::optional<catalog::RangeKey> &key, Oid table);

// What a build of this leaf runs: its columns in the order of `columns`, only
// rows of the leaf. When the source is the target (or the leaf, or a table
// between) the leaf is read directly: that is the same rows, and no lock on
// the parent, for which a swap of a sibling would have to wait.
struct LoadQuery {
    std::string sql;
    std::vector<std::string> columns;
};
LoadQuery load_query(const std::string &source_text, Oid source_relation,
                     const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf,
                     const std::string &constraint);

// Whether that relation, as a source, is the leaf itself or a table above it.
bool reads_own_rows(Oid source_relation, Oid leaf);

// $1 and $2 of a source: the leaf's bounds in the target's own key. None unless
// the target is partitioned by RANGE on one column.
pg::Params key_params(const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf);

} // namespace partbackfill::load
