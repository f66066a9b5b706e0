// What the role that runs a job may do to the tables of a partition. Roles and owners of tables
// change while a job runs: each step asks before it takes a lock, and again under the lock.
#pragma once

#include <string>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::catalog {

// Raises unless the current role may change what `owner` owns: an object of that kind ("table")
// and name. Nothing is raised for a table that is gone.
void check_owner(const std::string &kind, const std::string &name, Oid owner, const std::string &detail = "");
void check_owner(const std::string &kind, Oid table, const std::string &detail = "");

// Raises unless the current role could make itself the owner of the table, and so drop it by
// hand.
void check_may_drop(const std::string &name, Oid owner);

// Raises unless the current role may read the table and all of its partitions by name: by USAGE
// on the schema, and by SELECT or the ability to become the owner. No lock.
void check_may_read_tree(Oid table);

// Raises unless the current role may read the table by name: by USAGE on the schema and by SELECT.
// Nothing is raised for a table that the active snapshot does not see. No lock.
void check_may_read(Oid table);

// Raises unless the current role may refer to the table by a foreign key.
void check_may_reference(Oid table);

} // namespace partbackfill::catalog
