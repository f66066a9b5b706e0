// Failed attempts.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/job/partition_table.hpp"

namespace partbackfill::worker {

// What becomes of the shadow and its write capture. `kept` holds for a shadow that is built: a
// retry then only swaps it; `kept_to_look_at` for one that no retry may use.
enum class ShadowAfter { dropped, kept, kept_to_look_at };

// Marks the attempt as failed, and drops the shadow: the attempt has failed even when the drop
// fails. The partition is taken up again no earlier than in `pause`, or, when this was the last
// attempt, has failed for good.
void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause);

// Marks the partition as failed for good, whatever attempts are left.
void fail_for_good(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                   ShadowAfter shadow);

// Ends the revert of the partition, which stays as it is, and so do all others where they come back together;
// within a transaction of the caller's, or in its own.
void keep_as_it_is(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error);
void give_up_revert(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error);

// The parts of a failure for good, for a transaction of the caller's: the record of the failure, and what
// follows its commit.
job::Keep record_failure(job::Partition &partition, const pg::ErrorFields &error, ShadowAfter shadow);
void finish_failure(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                    job::Keep keep);

} // namespace partbackfill::worker
