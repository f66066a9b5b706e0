// Dropping triggers and foreign keys by their rows in the catalog.
//
// DDL would take ACCESS EXCLUSIVE on each table that has one of the triggers, and its readers
// would wait, although readers never look at triggers. SHARE ROW EXCLUSIVE, the lock of
// CREATE TRIGGER, is enough: it is granted only when each writer, which may have triggers to
// fire still, has ended.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// Drops the triggers. SHARE ROW EXCLUSIVE on their tables, to the end of the
// transaction.
void drop_triggers(const std::vector<Oid> &triggers);

// Clears pg_class.relhastriggers of a table that has no triggers any more, which the server
// leaves to VACUUM. The caller holds ACCESS EXCLUSIVE on the table.
void unmark_triggers(Oid table);

// Makes foreign keys that the partition has from its parent, and their triggers on the partition, its own, as
// DETACH does, without the triggers on other tables that DETACH makes. For keys that are dropped next. The
// caller holds ACCESS EXCLUSIVE on the partition.
void make_independent(Oid partition, const std::vector<Oid> &constraints, const std::vector<Oid> &triggers);

// Drops the constraints, whose triggers on other tables are gone already. ACCESS EXCLUSIVE on
// the constrained tables.
void drop_constraints(const std::vector<Oid> &constraints);

} // namespace partbackfill::catalog
