// Which partitions of a job can be reverted, how, and the beginning of that.
#pragma once

#include <vector>

#include "partbackfill/job/revert_table.hpp"
#include "partbackfill/process/registration.hpp"

namespace partbackfill::worker {

// The partition, or all of the job that have their new rows, or, when none has, all that have their old rows.
// Raises when something stands against it: no old rows are kept, the partition is another one by now, or,
// unless forced, rows were written to it since that could not come along. By the newest state, also above
// READ COMMITTED. No lock.
std::vector<job::RevertedPartition> plan_revert(const job::Job &job, Oid partition, bool force);

// Makes the job run for the revert, and starts workers for it, which come back should they die. False when
// there was no free slot for one: the current process has to be the worker then.
bool begin_revert(const process::Assignment &assignment);

} // namespace partbackfill::worker
