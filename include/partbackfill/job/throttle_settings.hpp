// The ThrottleSettings of a job as they are now, read in the middle of its queries.
#pragma once

#include <cstdint>
#include <optional>

#include "partbackfill/job/options.hpp"
#include "partbackfill/pg/newest_row.hpp"

namespace partbackfill::job {

// Where they are read: the columns of the table backfill_job that has that OID, and that index
// as its primary key.
pg::KeyedTable throttle_table(Oid table, Oid index);

// The newest committed settings of the job; nothing when it does not run, or is gone. Legal inside
// a running query, in parallel mode too.
std::optional<ThrottleSettings> throttle_settings_if_running(const pg::KeyedTable &jobs, std::int64_t job);

} // namespace partbackfill::job
