// Plans of what the caller wrote. To be included after server.hpp; C-style.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "executor/spi.h"
}

#include "partbackfill/pg/query.hpp"

namespace partbackfill::load {

// A plan that is made anew for each set of parameters, so that they are constants for the planner: the
// bounds must reach it, to prune and to use an index. Lives in the present SPI connection. Names are
// looked up now: the caller holds a pg::CallersPath.
SPIPlanPtr prepare_custom(const char *sql, const pg::Params &params, bool parallel);

} // namespace partbackfill::load
