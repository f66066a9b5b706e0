// The partitions of a table: which there are, in what order, and which of them
// a request means.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// A leaf partition as the catalogs show it now.
struct Leaf {
    Oid oid = kNoOid;
    Oid parent = kNoOid; // its direct parent
    Oid owner = kNoOid;
    std::string schema;
    std::string name;
    char kind = 0;        // pg_class.relkind
    char persistence = 0; // pg_class.relpersistence
    std::string bound;    // FOR VALUES ... or DEFAULT
    // The bounds of the target's own key, when that is RANGE with one column;
    // nullopt is unbounded.
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    std::int64_t rows = 0;  // the planner's estimate
    std::int64_t bytes = 0; // with indexes and TOAST
    bool selected = false;  // whether the request means it

    std::string qualified() const; // quoted, schema-qualified
};

// What backfill_start and backfill_plan were asked for.
struct Selection {
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    std::optional<std::vector<Oid>> partitions;
    bool newest_first = false;
};

// The key of the target when it is RANGE with one column: what $1, $2,
// range_start and range_end speak of.
struct RangeKey {
    Oid type = kNoOid;
    std::string type_name;
};

struct Target {
    Oid oid = kNoOid;
    Oid owner = kNoOid;
    std::string schema;
    std::string name;
    std::optional<RangeKey> key;
    // Columns that some partition key above or in the tree uses.
    std::set<std::string> key_columns;
    // The target, its partitioned descendants, and its ancestors.
    std::vector<Oid> descendants;
    std::vector<Oid> ancestors;
    std::vector<Leaf> leaves; // in the order of the job

    std::string qualified() const;
};

// Reads the partition tree below `target` and marks the leaves that are meant.
// An error when the target is not partitioned, or the selection means nothing.
// Takes ACCESS SHARE on the tree, until the end of the transaction.
Target inspect(Oid target, const Selection &selection);

// The live partition at its turn, without rows and bytes: nullopt when it is gone
// or no partition below the target now.
std::optional<Leaf> find_leaf(Oid leaf, Oid target);

// The implicit constraint of a partition as SQL, "true" when it has none: to be read under
// the caller's search_path, with a schema at whatever that would take for another. A
// namesake with exactly the types at hand goes before the server's own polymorphic
// operators of enums, arrays and ranges. Deparsing takes ACCESS SHARE on its ancestors until the end of the
// transaction.
std::string constraint_text(Oid leaf);

} // namespace partbackfill::engine
