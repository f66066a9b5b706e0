// What backfill_start and backfill_alter take for a job's pace, checked.
#pragma once

#include <optional>
#include <string>

namespace partbackfill::job {

// Each returns what is to be stored: nothing for '' and for zero, which mean "no
// limit". Anything else that makes no sense is an error that names the parameter.
std::optional<std::string> checked_wal_rate(const std::optional<std::string> &text);
std::optional<std::string> checked_replica_lag(const std::optional<std::string> &interval);
std::optional<std::string> checked_free_disk(const std::optional<std::string> &text);
// One query that only reads and gives one column, boolean or numeric. It is parsed
// as the caller, under his settings.
std::optional<std::string> checked_throttle_query(const std::optional<std::string> &text);
double checked_nice_ratio(double ratio);
int checked_workers(int workers);

} // namespace partbackfill::job
