// How far a standby's replay is behind, in time.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

namespace partbackfill::core {

// Remembers up to where the log was written at which time. The server's own
// measure is unknown until a standby has replayed something that was timed, and
// stays at its last value when nothing is replayed: a standby that stands still
// from the beginning would seem to keep up.
class ReplayLag {
public:
    using TimePoint = std::chrono::steady_clock::time_point;
    using Seconds = std::chrono::duration<double>;

    // The log ends there now.
    void written(std::uint64_t position, TimePoint now);
    // For how long at least what comes after that position has waited; 0 when
    // nothing is known to come after it.
    Seconds behind(std::uint64_t replayed, TimePoint now) const;
    // Whether what is lacking began before the first look, so that only others know.
    bool older_than_known(std::uint64_t replayed) const;

private:
    std::vector<std::pair<std::uint64_t, TimePoint>> looks_;
};

} // namespace partbackfill::core
