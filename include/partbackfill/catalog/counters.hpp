// The cumulative statistics of a partition after its swap.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// Gives the new rows the counters of their build, so that autovacuum does not repeat work that
// the build has done, and continues the counters of the partition's use. `live` was the live
// partition before the swap, `old_table` has the old rows now. To be called once the swap is
// committed: counters cannot be rolled back.
void carry_counters(Oid live, Oid shadow, Oid old_table);

} // namespace partbackfill::catalog
