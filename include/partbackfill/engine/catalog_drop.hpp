// Dropping triggers and foreign keys by their rows in the catalog.
//
// DDL takes ACCESS EXCLUSIVE on every table that has a trigger of theirs, and its
// readers would wait, although they never look at triggers. SHARE ROW EXCLUSIVE
// keeps out all who do: whoever has written, and has triggers to fire still, has
// ended when it is had. It is what making them takes.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Drops the triggers. SHARE ROW EXCLUSIVE on their tables, to the end of the
// transaction.
void drop_triggers(const std::vector<Oid> &triggers);

// Takes the mark of a table with triggers (pg_class.relhastriggers) from one that
// has none any more, which the server leaves to VACUUM. ACCESS EXCLUSIVE on it.
void unmark_triggers(Oid table);

// Drops the constraints, whose triggers on other tables are gone already. ACCESS
// EXCLUSIVE on the tables that they are constraints of.
void drop_constraints(const std::vector<Oid> &constraints);

} // namespace partbackfill::engine
