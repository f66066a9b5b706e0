// A partition as a worker takes it up from its row of backfill_control.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/job/job.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::job {

// Values of backfill_control.revert_by.
inline constexpr const char *kByExchange = "exchange";
inline constexpr const char *kByBuild = "build";

// Condition on a row j of backfill_job: the job's partitions are swapped each by itself, now.
inline constexpr const char *kSwappedEach =
    "(NOT j.publishing AND (j.publish = 'each' OR j.reverts_from IS NOT NULL))";

// The select list that partition_of() reads, of a row c.
const std::string &partition_columns();
Partition partition_of(const pg::Row &row);

// A token for a claim, which no other claim has.
std::int64_t new_claim_token();

} // namespace partbackfill::job
