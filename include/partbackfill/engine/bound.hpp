// A partition's bound as the parser left it. To be included after server.hpp;
// reports errors by longjmp: call it under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace partbackfill::engine {

PartitionBoundSpec *bound_of(Oid partition);

} // namespace partbackfill::engine
