// The bound of a partition as the parser left it, and the partition key of a table. To be
// included after server.hpp; errors are reported by longjmp: call under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "utils/partcache.h"
#include "utils/rel.h"
}

namespace partbackfill::catalog {

PartitionBoundSpec *bound_of(Oid partition);

// The partition key of the table. The first look at a key inlines its functions, which are
// found by the caller's search_path.
PartitionKey key_of(Relation table);

} // namespace partbackfill::catalog
