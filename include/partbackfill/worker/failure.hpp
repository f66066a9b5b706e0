// Failed attempts.
#pragma once

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// What becomes of the shadow and its write capture. `kept` holds for a shadow that is built: a
// retry then only swaps it.
enum class ShadowAfter { dropped, kept };

// Marks the attempt as failed, and drops the shadow: the attempt has failed even when the drop
// fails. The partition is taken up again no earlier than in `pause`, or, when this was the last
// attempt, has failed for good.
void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause);

// Marks the partition as failed for good, whatever attempts are left.
void fail_for_good(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                   ShadowAfter shadow);

} // namespace partbackfill::worker
