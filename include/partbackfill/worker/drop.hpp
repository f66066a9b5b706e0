// Dropping the tables of a job, without making other sessions wait for long.
#pragma once

#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/locks/table_locks.hpp"

namespace partbackfill::worker {

// The locks that dropping a table of the job takes; none when it is gone.
std::vector<locks::TableLock> locks_to_drop(const job::Job &job, Oid table);
// How long a lock on the table may be waited for to drop what the job left there: lock_timeout,
// but less when the job's owner may no longer act as the table's owner, or another role tidies up.
job::Milliseconds tidying_limit(const job::Job &job, Oid table);
// Drops a shadow or an old partition, within the caller's transaction. False, and nothing is
// dropped, when sessions use it, or a table that it refers to. An error when it has old rows that
// the current role could not drop by hand.
bool drop_politely(const job::Job &job, Oid table);
// Drops the write capture of a table, in a transaction of its own; false when the lock was not
// granted. SHARE ROW EXCLUSIVE for a moment, waited for no longer than tidying_limit().
bool drop_capture(const job::Job &job, Oid table);
// Drops the key log of a partition, in a transaction of its own in which nothing else is locked: a dump
// may be reading it. Returns the log when the lock was not granted, and kNoOid when it is gone. ACCESS
// EXCLUSIVE on the log, waited for no longer than tidying_limit().
Oid drop_log(const job::Job &job, Oid partition);

} // namespace partbackfill::worker
