// Foreign keys of a partition and of its shadow. The rows of the shadow are checked before the swap, by
// foreign keys of the shadow's own. Where files are exchanged these go with the old rows; where tables are,
// they become the partition's. Each function needs a PinnedSettings scope.
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

// Which foreign keys of the live partition the shadow has to have.
enum class Keys {
    valid, // those to which the new rows must be held
    all,   // with the comments on them
};

struct ForeignKeyStep {
    std::vector<std::string> statements;
    std::vector<locks::TableLock> locks; // on tables that other sessions use
    bool validates = false;              // rows are read, as the owner of the shadow
};

// The step that gives the shadow the next foreign key of the live partition that it lacks, or
// validates the next key that is not valid; nullopt when all keys are there and valid. Adding
// takes SHARE ROW EXCLUSIVE on the tables referred to, for a moment; validating takes ROW SHARE,
// which no writer feels, for a scan of the shadow. From then on a session that deletes a key
// there checks the shadow as it will check the partition.
std::optional<ForeignKeyStep> next_foreign_key_step(const catalog::Leaf &leaf, Oid shadow, Keys keys);

// Makes the rows that a valid key to a partitioned table has for each of its partitions valid, as those of
// a key are that was not added NOT VALID. VALIDATE leaves them (15 to 17).
void mark_parts_valid(Oid shadow);

// Drops all foreign keys of the table, which is no partition. SHARE ROW EXCLUSIVE on the tables referred to.
void drop_foreign_keys(Oid table);

// As drop_foreign_keys, for a partition that is to be detached next. ACCESS EXCLUSIVE on it.
void drop_keys_of_partition(const catalog::Leaf &leaf);

// A foreign key of the shadow that ATTACH is to make a part of one of the parent's.
struct AdoptedKey {
    Oid key;    // of the shadow
    Oid parent; // constraint of the parent
};

// The foreign keys of the shadow whose equals the live partition has from its parent, by their names.
std::vector<AdoptedKey> keys_to_adopt(const catalog::Leaf &leaf, Oid shadow);

// Drops the triggers of the keys on the tables referred to, which have those of the parent's keys. ATTACH
// would drop them with ACCESS EXCLUSIVE on these tables; this takes SHARE ROW EXCLUSIVE.
void drop_action_triggers(const std::vector<AdoptedKey> &keys);

// Raises unless each of the keys has become a part of the parent's key.
void check_adopted(const catalog::Leaf &leaf, const std::vector<AdoptedKey> &keys);

// The tables to which foreign keys of the live partition refer, and the partitions of these, as the server
// locks them.
std::vector<Oid> tables_of_keys(const catalog::Leaf &leaf);

// Tables that have a trigger of a foreign key of the shadow.
std::vector<Oid> tables_referred_to(Oid shadow);

} // namespace partbackfill::shadow
