// Foreign keys of a partition whose files are exchanged: the constraints stay with the live
// partition, so the new rows must satisfy them. Each function needs a PinnedSettings scope.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/locks/table_locks.hpp"

namespace partbackfill::shadow {

// Raises when the shadow lacks a key that the live partition has, and that another table could
// refer to. Both tables are read under the active snapshot, which must be that of the load: a key
// that came later is a write after the load, and is found as such.
void check_referenced_keys(const catalog::Leaf &leaf, Oid shadow);

struct ForeignKeyStep {
    std::string statement;
    std::vector<locks::TableLock> locks; // on tables that other sessions use
    bool validates = false;              // rows are read, as the owner of the shadow
};

// The step that gives the shadow the next foreign key of the live partition that it lacks, or
// validates the next key that is not valid; nullopt when all keys are there and valid. Adding
// takes SHARE ROW EXCLUSIVE on the tables referred to, for a moment; validating takes ROW SHARE,
// which no writer feels, for a scan of the shadow. From then on a session that deletes a key
// there checks the shadow as it will check the partition.
std::optional<ForeignKeyStep> next_foreign_key_step(const catalog::Leaf &leaf, Oid shadow);

// Drops all foreign keys of the shadow. SHARE ROW EXCLUSIVE on the tables referred to.
void drop_foreign_keys(Oid shadow);

// Tables that have a trigger of a foreign key of the shadow.
std::vector<Oid> tables_referred_to(Oid shadow);

} // namespace partbackfill::shadow
