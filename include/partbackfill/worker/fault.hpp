// The fault points of a worker's steps; see pg/fault.hpp.
//   claim     it has taken up a partition, and not begun
//   guard     the guard is made, not committed
//   create    the shadow is made, not committed
//   load      nothing is loaded yet
//   index     an index is to be built
//   count     a piece of the live partition is to be counted, which is not locked
//   analyze   the indexes are there
//   built     everything is built, not committed
//   ready     it is committed
//   prepare   a proof or a foreign key is made or validated, not committed
//   look      the shadow was found to be as it was built, in or before the swap
//   swap      the tables are exchanged under all locks, not committed
//   swapped   it is committed
//   tidy      the old table is dropped, not committed
//   end       what lay around is gone, the job is not yet marked so
#pragma once

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

void reach(const char *point, int ordinal = 0);
inline void reach(const char *point, const job::Partition &partition) {
    reach(point, partition.ordinal);
}

} // namespace partbackfill::worker
