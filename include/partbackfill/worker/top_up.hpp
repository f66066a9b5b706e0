// More workers for a job that has fewer than it wants.
#pragma once

#include <chrono>

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Starts workers that the job lacks once there is room for them: one at a time, and less often while
// they do not stay.
class TopUp {
public:
    // Starts one when the time for it has come. In no transaction.
    void start_lacking(const job::Job &job);

private:
    using Clock = std::chrono::steady_clock;
    static constexpr job::Milliseconds kShortest{2000};
    static constexpr job::Milliseconds kLongest{60000};
    job::Milliseconds pause_ = kShortest;
    Clock::time_point next_ = Clock::now() + kShortest;
};

} // namespace partbackfill::worker
