// Results of SQL functions from C++ values. To be included after server.hpp.
#pragma once

#include "partbackfill/pg/server.hpp"

#include <optional>
#include <string>
#include <vector>

namespace partbackfill::pg {

// Gives the caller a set of rows, their columns in text form.
using TextRow = std::vector<std::optional<std::string>>;
Datum return_rows(FunctionCallInfo fcinfo, const std::vector<TextRow> &rows);

Datum return_text(const std::string &text);

} // namespace partbackfill::pg
