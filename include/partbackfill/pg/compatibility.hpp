// Whether the library works here: with the server that has loaded it, and with the extension's objects of the
// database.
#pragma once

#include <optional>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// The extension's version of which the library is.
inline constexpr const char *kVersion = "1.1";

// An error when the library was built for another minor release of the server, with which it does not
// work. C-style: for _PG_init().
void check_server();

// What to report when the extension is installed in this database in another version than the library's.
// Must be in a transaction.
std::optional<ErrorFields> version_mismatch();

// Raises that. Costs nothing where nothing has changed since the last call.
void require_version();

} // namespace partbackfill::pg
