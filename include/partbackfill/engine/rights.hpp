// What the role that runs a job may do to the tables of a partition. Roles, and owners of
// tables, change while a job runs: asked in each step before a lock is taken, and again
// under it.
#pragma once

#include <string>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Raises unless the current role may change what `owner` owns; `kind` and `name` say what that is.
void check_owner(const std::string &kind, const std::string &name, Oid owner, const std::string &detail = "");
void check_owner(const std::string &kind, Oid table);

// Raises unless the current role could make itself the owner of that table, and so drop it by hand.
void check_may_drop(const std::string &name, Oid owner);

// Raises unless the current role may read the table and all of its partitions, each by its
// name: USAGE on the schema, SELECT or to be able to become the owner. Takes no lock on them.
void check_may_read_tree(Oid table);

// Raises unless the current role may refer to the table by a foreign key.
void check_may_reference(Oid table);

} // namespace partbackfill::engine
