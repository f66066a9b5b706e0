// Whether expressions may run beside parallel workers, and in them. To be included after
// server.hpp.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace partbackfill::pg {

// The worst hazard of the functions that the expressions call: PROPARALLEL_SAFE, _RESTRICTED
// or _UNSAFE. C-style.
char parallel_hazard(List *expressions);

} // namespace partbackfill::pg
