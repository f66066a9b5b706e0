// Claims: taking up a partition and giving it back.
#pragma once

#include <optional>

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Claims the next partition: its session lock, its row, and one more attempt when it is to be
// built. Sets `orphaned` when the last worker that had it died. In no transaction.
std::optional<job::Partition> claim_next(const job::Job &job, bool &orphaned);

// Claims a partition that waits for its swap, whatever pause it was given; nothing when it no longer
// waits. In no transaction.
std::optional<job::Partition> claim_waiting(const job::Job &job, int ordinal);

// Decides what becomes of a partition whose last worker died; true when it is to be worked on now. A
// worker that died in a build may have died of it: the attempt has failed, and the next one follows
// after a pause that grows. A partition that is built needs only its swap, at once; after further
// deaths it waits for a pause, and after max_attempts of them it has failed.
bool recover_orphan(const job::Job &job, job::Partition &partition);

// Gives back a partition of a paused job. backfill_pause gives back the partitions that it sees
// claimed; of a claim that was committed at the same moment it may not know, in a transaction
// whose snapshot is older.
void give_back_if_paused(job::Partition &partition);

} // namespace partbackfill::worker
