// How a process of the extension begins.
#pragma once

#include <cstdint>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::process {

// Sets up signals (SIGHUP reloads, SIGTERM ends the process at its next interrupt check) and
// connects: as the server's first superuser without a role, to no database without one. C-style,
// since an error is the server's to report: the process ends by it.
void connect_process(Oid database, Oid role, std::uint32_t flags = 0);

} // namespace partbackfill::process
