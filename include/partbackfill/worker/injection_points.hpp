// The injection points of a worker, in the order of a partition's life; see pg/injection_point.hpp.
//
// Each is named for the phase in which it lies, or for the event that has just happened. Those
// before `built` lie before the commit of the build, or within it.
#pragma once

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

enum class InjectionPoint {
    claimed,     // the partition is claimed, or all of a job to be published (0); no step has begun
    captured,    // the write capture is made, not committed
    adopting,    // a kept table is made fit for the exchange back, not committed
    created,     // the shadow is made, not committed
    loading,     // no row is loaded yet
    indexing,    // the next index is to be built
    counting,    // the next piece of the live partition is to be counted; it is not locked
    analyzing,   // the rows and indexes are there
    built,       // the build is complete, not committed
    ready,       // the build is committed
    catching_up, // rows are refreshed, not committed
    converged,   // few keys are left
    validating,  // a proof or a foreign key is made or validated, not committed
    auditing,    // no audit has been asked yet
    recheck,     // the shadow was found to be as it was built, before the locks of the swap or under them
    caught_up,   // the last rows are refreshed while writers are kept out, not committed
    swapping,    // the tables are exchanged under all locks, not committed
    swapped,     // the swap is committed
    tidying,     // the old table is dropped, not committed
    ending,      // the leftovers of the job are dropped, the job is not marked as ended yet
    leaving,     // the worker has read whether anything is left to do, and still counts as one of the job
};

// Stops, fails or ends the process there when partbackfill.injection_point says so.
void injection_point(InjectionPoint point, int ordinal = 0);
inline void injection_point(InjectionPoint point, const job::Partition &partition) {
    injection_point(point, partition.ordinal);
}

} // namespace partbackfill::worker
