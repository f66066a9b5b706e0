// How fast a job may go: settings that can change while it runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/core/quantity.hpp"
#include "partbackfill/core/state.hpp"
#include "partbackfill/pg/newest_row.hpp"

namespace partbackfill::job {

struct Pace {
    core::JobState state = core::JobState::running;
    double nice_ratio = 0;                 // seconds slept per second worked
    std::int64_t max_wal_rate = 0;         // bytes per second of the whole job; 0: no limit
    std::optional<double> max_replica_lag; // seconds
    std::optional<std::string> throttle_query;
    core::Room min_free_disk;
};

// The columns of backfill_job that make a Pace, in this order.
std::vector<std::string> pace_columns();
Pace pace_of(const std::vector<std::optional<std::string>> &fields);

// The newest settings of the job, to be read inside a running query too; nothing
// when the job is gone.
std::optional<Pace> newest_pace(const pg::KeyedTable &jobs, std::int64_t job);

} // namespace partbackfill::job
