// What the argument of an option means. A value that makes no sense is an error that names the
// parameter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/core/quantity.hpp"

namespace partbackfill::job {

// At least 1.
int checked_count(const std::string &name, int count);
double checked_nice_ratio(double ratio);
// One of the names.
const std::string &checked_choice(const std::string &name, const std::string &value,
                                  const std::vector<std::string> &names);

// NULL, '' and zero mean that there is no limit, here and below. Bytes per second.
std::int64_t parsed_wal_rate(const std::optional<std::string> &text);
// Seconds.
std::optional<double> checked_replica_lag(std::optional<double> seconds);
core::DiskReserve parsed_free_disk(const std::optional<std::string> &text);
// One query that only reads and gives one column, boolean or numeric. It is parsed as the
// caller, under the caller's settings.
std::optional<std::string> checked_throttle_query(const std::optional<std::string> &text);
// None is NULL. Whether each is a query that can be asked is for load::check_audits, which knows the table.
std::vector<std::string> checked_audits(const std::vector<std::optional<std::string>> &texts);
// At least one character, at most 200 bytes, and no control character: the server's log has it.
std::optional<std::string> checked_label(const std::optional<std::string> &text);

} // namespace partbackfill::job
