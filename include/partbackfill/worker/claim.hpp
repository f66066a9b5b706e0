// Taking up a partition and giving it back.
#pragma once

#include <optional>

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Takes up a partition: its session lock, its row, and one more attempt when it
// is to be built. `orphan` is set when a dead worker left it behind. In no transaction.
std::optional<job::Partition> claim_next(const job::Job &job, bool &orphan);

// Takes up a partition that waits for its swap, whatever pause it was given; nothing when
// it does not wait any more. In no transaction.
std::optional<job::Partition> claim_waiting(const job::Job &job, int ordinal);

// What a dead worker left behind. A worker that died in a build may have died of it: the
// next try comes after a pause that grows, and counts. What is built needs only its swap,
// at once; but when workers die of that again and again, so does the server.
// True when the partition is to be worked on now.
bool take_over(const job::Job &job, job::Partition &partition);

// backfill_pause gives back what it sees in the hands of workers. Of a claim that was
// committed at the same moment it may not know, in a transaction whose snapshot is older.
void give_back_if_paused(job::Partition &partition);

} // namespace partbackfill::worker
