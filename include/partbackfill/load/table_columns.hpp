// The columns of a table, by name.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::load {

struct NamedColumn {
    std::string name;
    bool generated;
};

// The table's columns in their order.
std::vector<NamedColumn> table_columns(Oid table);

} // namespace partbackfill::load
