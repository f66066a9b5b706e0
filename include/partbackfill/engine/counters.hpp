// The cumulative statistics of a partition after its swap.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// `live` was the live partition before, `old_table` has its rows now. The new rows get
// the counters of their build, so that autovacuum does not do again what that has done,
// and what is counted of the partition's use goes on. Once the swap is committed:
// nothing of this can be rolled back.
void carry_counters(Oid live, Oid shadow, Oid old_table);

} // namespace partbackfill::engine
