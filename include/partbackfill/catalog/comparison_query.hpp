// The statements that compare the rows of two tables. They name all with schemas and contain no operator by
// its name alone, so that they mean the same under any search_path; each reads each table once, but for rows
// that are shown.
#pragma once

#include <string>

#include "partbackfill/catalog/compared_tables.hpp"

namespace partbackfill::catalog {

// One row: old_rows, new_rows, same, changed, only_old, only_new, and, with a key, for each column in how
// many of the changed rows it differs. Without a key changed is NULL, and nothing follows only_new.
std::string counting_query(const ComparedTables &tables);

// Rows of kind, key, old and new (jsonb), as many as $1 at most.
std::string showing_query(const ComparedTables &tables);

} // namespace partbackfill::catalog
