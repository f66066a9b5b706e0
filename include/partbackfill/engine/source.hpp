// Where the corrected rows come from: a relation or a query of the caller's.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

// A source as it was given and understood at the door.
struct Source {
    std::string text;          // as given
    Oid relation = kNoOid;     // when the text names one
    std::string query;         // what stands in FROM (...)
    bool reads_target = false; // reads the target, or a table above or below it
    bool own_rows = false;     // is the target, or a table above or below it
    bool uses_start = false;   // names $1
    bool uses_end = false;     // names $2
};

// Understands and checks a source against the target's columns, as the caller
// and under his settings: it parses, it is one statement that only reads, its
// columns match by name and can be assigned, and the columns of the partition
// keys have exactly the keys' types. Raises what is wrong.
Source check_source(const std::string &text, const Target &target);

// Raises on settings of the session under which the text of a partition's
// constraint would mean something else.
void check_settings();

// What a build of this leaf runs: its columns in the order of `columns`, only
// rows of the leaf. When the source is the target (or the leaf, or a table
// between) the leaf is read directly: that is the same rows, and no lock on
// the parent, for which a swap of a sibling would have to wait.
struct LoadQuery {
    std::string sql;
    std::vector<std::string> columns;
};
// A literal without a type is given that of its column, as INSERT gives it.
LoadQuery load_query(const std::string &source_text, Oid source_relation, const std::optional<RangeKey> &key,
                     const Leaf &leaf, const std::string &constraint);

// Whether that relation, as a source, is the leaf itself or a table above it.
bool reads_own_rows(Oid source_relation, Oid leaf);

// $1 and $2 of a source: the leaf's bounds in the target's own key. None unless
// the target is partitioned by RANGE on one column.
pg::Params key_params(const std::optional<RangeKey> &key, const Leaf &leaf);

// The plan, as JSON, of what a build of this leaf would run. Whatever the caller
// may not read is an error.
std::string explain(const Source &source, const Target &target, const Leaf &leaf,
                    const std::string &constraint);

// Leaves of those that the target's request means for which $1 or $2 is NULL and a
// condition on it keeps every row of the source, or of a part of it, away: the query
// and its plan tell. Such a build would lose what the source means to give.
std::vector<const Leaf *> leaves_without_rows(const Source &source, const Target &target);
// Raises that.
[[noreturn]] void raise_without_rows(const std::vector<const Leaf *> &leaves);

// Whether in that plan the leaf's filter stays above a part of the source that
// has to be computed whole (a window, a limit, an aggregate without the key):
// each partition then costs a read of everything. The planner itself is asked.
bool reads_everything(const std::string &plan);

// Columns that a load assigns: those of the table that are not generated.
std::vector<std::string> assigned_columns(Oid table);

} // namespace partbackfill::engine
