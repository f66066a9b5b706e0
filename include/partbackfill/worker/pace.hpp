// A worker's pace: it goes as slowly as its job is told to, and says why.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "partbackfill/core/throttle.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/job/pace.hpp"

namespace partbackfill::worker {

// One for a worker's life: what one partition owes, the next one pays. All waits
// serve interrupts. The settings are read anew every second, also in the middle
// of a query: a change is obeyed within two.
class Pacer {
public:
    explicit Pacer(std::int64_t job);

    // The build of a partition begins; in no transaction.
    void begin();
    // In a build, after each bit of work: waits for as long as is owed for it.
    // Legal while a query runs, in parallel mode too.
    void check();
    // How long the build that began last has been made to wait.
    core::Seconds throttled() const noexcept { return throttled_; }

private:
    void account();
    void look();
    void pay();
    void nap(core::Seconds time);
    std::string reason() const;

    std::int64_t job_;
    std::optional<pg::KeyedTable> jobs_;
    job::Pace pace_;
    int sharers_ = 1; // workers of the job that have a partition in hand
    core::TokenBucket wal_;
    core::NiceRatio nice_;
    core::RecentRate wal_rate_;
    core::TimePoint marked_; // what was done since is not accounted for
    std::uint64_t wal_marked_;
    core::TimePoint looked_;
    core::Seconds throttled_{0};
    core::Seconds seen_throttled_{0}; // at the last look
    bool says_why_ = false; // in the activity line
};

} // namespace partbackfill::worker
