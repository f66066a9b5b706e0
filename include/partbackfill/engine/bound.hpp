// A partition's bound as the parser left it, and a table's key. To be included after
// server.hpp; errors are reported by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "utils/partcache.h"
#include "utils/rel.h"
}

namespace partbackfill::engine {

PartitionBoundSpec *bound_of(Oid partition);

// The table's key. The first look at it inlines the functions in it, found by the
// caller's search_path.
PartitionKey key_of(Relation table);

} // namespace partbackfill::engine
