// Catalog rows of a table's definition that no documented DDL copies exactly.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// The comment on the object `from` of that catalog becomes that on `to`. C-style:
// it may jump.
void copy_comment(Oid catalog, Oid from, Oid to);

// Gives `shadow` a CHECK constraint named partbackfill_bounds that equals the
// partition constraint of `live`, as an expression tree: text would be parsed
// into another tree for some keys, and ATTACH would then scan. The table must
// be empty. ACCESS EXCLUSIVE on the shadow.
void add_bounds_constraint(Oid live, Oid shadow);

// Copies grants on the table and on its columns as they are, grantors included;
// whatever default privileges had granted on the shadow goes.
void copy_privileges(Oid live, Oid shadow);

// Gives the type of arrays of the shadow's rows the name that the live partition's
// has. The server chose that among the names that were free in its schema, and
// would choose another in the shadow's.
void copy_array_type_name(Oid live, Oid shadow);

// Makes the leaf's valid indexes on the shadow under their own names, comments
// included, unbuilt rows and all: for each index of the parent, in the order in
// which ATTACH pairs them, its child first; then the leaf's own.
void clone_indexes(Oid live, Oid shadow);

} // namespace partbackfill::engine
