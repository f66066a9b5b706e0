#include "partbackfill/job/throttle_settings.hpp"

#include "partbackfill/core/state.hpp"
#include "partbackfill/job/option_table.hpp"

namespace partbackfill::job {

pg::KeyedTable throttle_table(Oid table, Oid index) {
    std::vector<std::string> columns = throttle_columns();
    columns.emplace_back("state");
    return {table, index, std::move(columns)};
}

std::optional<ThrottleSettings> throttle_settings_if_running(const pg::KeyedTable &jobs, std::int64_t job) {
    const auto row = jobs.find(job);
    if (!row || core::job_state(row->text("state")) != core::JobState::running)
        return std::nullopt;
    return throttle_settings(*row);
}

} // namespace partbackfill::job
