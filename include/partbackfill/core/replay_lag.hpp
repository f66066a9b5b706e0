// The lag of a standby's replay, in time.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

namespace partbackfill::core {

// Remembers which position the log had reached at which time. The server's own
// measure is unknown until a standby has replayed something that was timed, and
// stays at its last value when nothing is replayed: a standby that stands still
// from the beginning would seem to keep up.
class ReplayLag {
public:
    using TimePoint = std::chrono::steady_clock::time_point;
    using Seconds = std::chrono::duration<double>;

    // Notes that the log ends at that position now.
    void written(std::uint64_t position, TimePoint now);
    // For how long at least the log after that position has waited; 0 when
    // no log is known to come after it.
    Seconds behind(std::uint64_t replayed, TimePoint now) const;
    // Whether the lag began before the first note: its length is not known here then.
    bool older_than_known(std::uint64_t replayed) const;

private:
    std::vector<std::pair<std::uint64_t, TimePoint>> notes_;
};

} // namespace partbackfill::core
