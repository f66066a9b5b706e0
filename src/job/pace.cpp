#include "partbackfill/job/pace.hpp"

#include <charconv>
#include <stdexcept>

namespace partbackfill::job {

namespace {

double number(const std::string &text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        throw std::logic_error("\"" + text + "\" in backfill_job is not a number");
    return value;
}

} // namespace

std::vector<std::string> pace_columns() {
    return {"state", "nice_ratio", "max_wal_rate", "max_replica_lag", "throttle_query", "min_free_disk"};
}

Pace pace_of(const std::vector<std::optional<std::string>> &fields) {
    Pace pace;
    pace.state = core::job_state(fields.at(0).value());
    pace.nice_ratio = number(fields.at(1).value());
    if (fields.at(2))
        pace.max_wal_rate = core::parse_bytes(*fields.at(2)).value();
    if (fields.at(3))
        pace.max_replica_lag = number(*fields.at(3));
    pace.throttle_query = fields.at(4);
    if (fields.at(5))
        pace.min_free_disk = core::parse_room(*fields.at(5)).value();
    return pace;
}

std::optional<Pace> newest_pace(const pg::KeyedTable &jobs, std::int64_t job) {
    const auto fields = jobs.find(job);
    return fields ? std::optional(pace_of(*fields)) : std::nullopt;
}

} // namespace partbackfill::job
