// Foreign keys of a partition whose files are exchanged: the constraints stay
// with the live partition, so what they promise must hold for the new rows.
//
// Each of the functions needs a PinnedSettings scope.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"
#include "partbackfill/engine/polite_locks.hpp"

namespace partbackfill::engine {

// Keys in to the partition: raises when the shadow lacks a key that the live
// partition has, and that another table could refer to. Both are read under the
// active snapshot, which must be that of the load: a key that came later is a
// write after it, and found as such.
void check_referenced_keys(const Leaf &leaf, Oid shadow);

struct ForeignKeyStep {
    std::string statement;
    std::vector<TableLock> locks; // what it takes on tables that others use
    bool validates = false;       // rows are looked at, as the owner of the shadow
};
// Gives the shadow the next foreign key of the live partition that it lacks, or
// else validates the next one that is not valid; nullopt when all are there.
// Adding takes SHARE ROW EXCLUSIVE on the tables referred to, for a moment, and
// validating ROW SHARE, for a scan of the shadow, which no writer feels. From then
// on whoever deletes a key there meets the shadow as he will meet the partition.
std::optional<ForeignKeyStep> next_foreign_key_step(const Leaf &leaf, Oid shadow);

// Drops them all. SHARE ROW EXCLUSIVE on the tables referred to.
void drop_foreign_keys(Oid shadow);

// Those tables: all that have a trigger of a foreign key of the shadow.
std::vector<Oid> tables_referred_to(Oid shadow);

} // namespace partbackfill::engine
