// Whether ALTER TABLE has changed the values of a table's columns, or their names, types and places. Each
// function needs a PinnedSettings scope. No lock.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// What the columns are now, to be compared later.
std::string columns_of(Oid table);

// Whether columns were changed between the two. A new file alone may be one of VACUUM FULL or CLUSTER;
// changed rows of pg_attribute alone may be of options or grants: both together are taken for ALTER COLUMN
// ... TYPE.
bool columns_changed(const std::string &before, const std::string &now);

// Whether the two tables have the same columns, whatever their places.
bool has_same_columns(Oid a, Oid b);

} // namespace partbackfill::catalog
