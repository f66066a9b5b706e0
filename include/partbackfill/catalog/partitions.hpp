// The partitions of a table: which there are, in what order, and which of them a request
// means.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// A leaf partition as the catalogs show it now.
struct Leaf {
    Oid oid = kNoOid;
    Oid parent = kNoOid; // the direct parent
    Oid owner = kNoOid;
    std::string schema;
    std::string name;
    char kind = 0;        // pg_class.relkind
    char persistence = 0; // pg_class.relpersistence
    std::string bound;    // FOR VALUES ... or DEFAULT
    // Bounds of the target's own key, when that is RANGE with one column; nullopt is
    // unbounded.
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    std::int64_t rows = 0;  // the planner's estimate
    std::int64_t bytes = 0; // with indexes and TOAST
    bool selected = false;  // whether the request means the leaf

    std::string qualified() const; // quoted, schema-qualified
};

// What backfill_start and backfill_plan were asked for.
struct Selection {
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    std::optional<std::vector<Oid>> partitions;
    bool newest_first = false;
};

// The key of a target that is RANGE with one column: the type of $1, $2, range_start and
// range_end.
struct RangeKey {
    Oid type = kNoOid;
};

struct Target {
    Oid oid = kNoOid;
    Oid owner = kNoOid;
    std::string schema;
    std::string name;
    std::optional<RangeKey> key;
    std::set<std::string> key_columns; // used by any partition key of the tree
    std::vector<Oid> descendants;      // the target and its partitioned descendants
    std::vector<Oid> ancestors;
    std::vector<Leaf> leaves; // in the order of the job

    std::string qualified() const;
    std::vector<Oid> selected_oids() const; // of the leaves
};

// Reads the partition tree below the target and marks the leaves that the selection means.
// Raises when the target is not partitioned, or when the selection means no partition.
// ACCESS SHARE on the tree, to the end of the transaction.
Target inspect(Oid target, const Selection &selection);

// The live partition at its turn, without rows and bytes; nullopt when it is gone, or when
// it is no partition below the target now. Needs a PinnedSettings scope. No lock.
std::optional<Leaf> find_leaf(Oid leaf, Oid target);

// As find_leaf, but nullopt also when the partition's bound is not the given one.
std::optional<Leaf> find_same_leaf(Oid leaf, Oid target, const std::string &bound);

// Implicit constraint of a partition as SQL, "true" when there is none. To be parsed under
// the caller's search_path: an object that this would take for another is written with its
// schema. Among operators of enums, arrays and ranges a namesake with exactly the types at
// hand goes before the server's own polymorphic one. ACCESS SHARE on the ancestors, to the
// end of the transaction.
std::string constraint_text(Oid leaf);

} // namespace partbackfill::catalog
