// Catalog rows of a table's definition that no documented DDL copies exactly.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::shadow {

// Name of the CHECK that equals the partition's constraint, so that ATTACH has nothing to scan. The
// CHECK exists from the shadow's creation to the end of the swap.
inline constexpr const char *kBoundsConstraint = "partbackfill_bounds";

// Copies the comment on the object `from` of the catalog to the object `to`. C-style: errors are
// reported by longjmp.
void copy_comment(Oid catalog, Oid from, Oid to);

// Gives `shadow` a CHECK named partbackfill_bounds that equals the partition constraint of `live`,
// as an expression tree: a text would be parsed into another tree for some keys, and ATTACH would
// then scan. The shadow must be empty. ACCESS EXCLUSIVE on the shadow.
void add_bounds_constraint(Oid live, Oid shadow);

// As add_bounds_constraint(), for a table that has rows: the CHECK is not valid yet. False when there is
// nothing to check.
bool add_unvalidated_bounds(Oid live, Oid shadow);

// Whether the table has that CHECK, of the bounds that `live` has now or of others, and whether it is valid.
// The caller holds ACCESS SHARE or more on both.
enum class Bounds { none, others, added, valid };
Bounds bounds_of(Oid live, Oid table);

// Drops that CHECK. ACCESS EXCLUSIVE on the table.
void drop_bounds(Oid table);

// Copies the grants on the table and on the columns as they are, grantors included. Grants by
// default privileges on the shadow go.
void copy_privileges(Oid live, Oid shadow);

// Copies the grants on the row type as they are, and the comments on it and on its array type.
void copy_row_type(Oid live, Oid shadow);

// Gives the array type of the shadow's row type the name of the live partition's array type. The
// server chooses such a name among those that are free in the schema, and so chooses another one
// in the shadow's schema.
void copy_array_type_name(Oid live, Oid shadow);

// Makes the valid indexes of the leaf on the shadow under the same names, comments included. Indexes
// that belong to indexes of the parent come first, in the order in which ATTACH pairs them; then
// come the leaf's own. ACCESS EXCLUSIVE on the shadow.
void clone_indexes(Oid live, Oid shadow);

} // namespace partbackfill::shadow
