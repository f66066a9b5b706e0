// The query that a build of a partition runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/catalog/row_key.hpp"
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

// What gives the source's rows of the keys that stand in a table kKeys with the columns k1, k2, ...
// (any of them more than once): the rows that load_query gives whose keys are equal, as the row key's
// index has it. One asks for each key by itself, the other for all of them at once; which is the
// quicker depends on whether the source can be asked by key.
struct KeyQueries {
    std::string each;
    std::string joined;
    std::vector<std::string> columns;
};
inline constexpr const char *kKeys = "partbackfill_keys";
KeyQueries key_queries(const std::string &source_text, Oid source_relation,
                       const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf,
                       const std::string &constraint, const catalog::RowKey &row_key);

// Whether that relation, as a source, is the leaf itself or a table above it.
bool reads_own_rows(Oid source_relation, Oid leaf);

// $1 and $2 of a source: the leaf's bounds in the target's own key. None unless
// the target is partitioned by RANGE on one column.
pg::Params key_params(const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf);

} // namespace partbackfill::load
