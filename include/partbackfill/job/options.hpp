// What the caller of backfill_start chose for a job, typed. job/option_table.hpp says how each
// option is read from an argument and kept in backfill_job.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/core/quantity.hpp"

namespace partbackfill::job {

using Milliseconds = std::chrono::milliseconds;

// What happens when a partition is written to while it is rebuilt.
enum class OnWrite {
    rebuild,  // the write is noticed, and the partition built again
    catch_up, // the keys of the written rows are noted, and those rows computed again before the swap
    block,    // writers wait from the build's snapshot to the swap
    ignore,   // the writes are lost with the old partition
};

// Whether a write capture notices writes to a partition while it is rebuilt.
constexpr bool notices_writes(OnWrite on_write) noexcept {
    return on_write == OnWrite::rebuild || on_write == OnWrite::catch_up;
}

// When a partition that is built is swapped.
enum class Publish {
    each,     // by itself, at once
    together, // in one transaction with all others of the job, once every one is built
    manual,   // as together, when backfill_publish() is called
};

// Options that a worker reads again every second, in the middle of a build too.
struct ThrottleSettings {
    double nice_ratio = 0;                 // seconds slept per second worked
    std::int64_t max_wal_rate = 0;         // bytes per second of the whole job; 0: no limit
    std::optional<double> max_replica_lag; // seconds
    std::optional<std::string> throttle_query;
    core::DiskReserve min_free_disk;
};

// Options that a worker reads again between two steps. None is long: they are read often.
struct StepOptions {
    bool newest_first = false;
    int workers = 1;
    Milliseconds delay{0};
    OnWrite on_write = OnWrite::rebuild;
    bool stop_on_error = false;
    int max_attempts = 3;
    Publish publish = Publish::each;
    std::string swap; // name of the method; before the job is stored also swap::kAnyMethod
    bool keep_old = true;
    Milliseconds lock_timeout{0};
    Milliseconds swap_patience{0};
    std::optional<std::string> label; // the owner's own name for the job, of one unfinished job at a time
    bool skip_triggers = false;       // BEFORE ROW triggers need not fire for the new rows
    bool allow_shrink = false;        // a partition may be swapped that has lost most of its rows
};

struct Options : StepOptions, ThrottleSettings {
    // Queries that must give no row before a partition is swapped. They may be long: a worker reads them
    // when they are due (JobTable::audits).
    std::vector<std::string> audits;
};

} // namespace partbackfill::job
