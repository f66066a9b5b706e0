// The partitions of a job that wait for the locks of their swap, and the sessions in their way,
// polled every few milliseconds.
//
// An old transaction need not hold its locks for long, and one that does may end at any time: a
// worker that only came back after a pause would come too late or too early. A poll costs
// microseconds, and no session waits for it, since the queue is not entered.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/locks/table_locks.hpp"

namespace partbackfill::worker {

// No function may be called in a transaction.
class SwapWatch {
public:
    // Watches for the partition while it is built and waits for its swap; forgets it otherwise. A
    // partition that was tried because the watch found it unblocked, and did not get its locks,
    // is left alone for a moment.
    enum class Tried { as_watched, otherwise };
    void observe(const job::Job &job, const job::Partition &partition, Tried tried);
    void forget(int ordinal);
    // Watches for all partitions of the job that wait for their swap and that no worker has claimed.
    void observe_all(const job::Job &job);
    // A partition with no session in the way of its swap, as of now.
    std::optional<int> unblocked();
    // Waits for up to `time` for an unblocked partition, or for one whose locks are held by
    // transactions only that are young enough to be waited for in the queue.
    std::optional<int> wait(const job::Job &job, std::chrono::milliseconds time);

private:
    using Clock = std::chrono::steady_clock;
    struct Waiting {
        std::vector<locks::TableLock> locks;
        int tries = 0;                  // in a row, as watched
        Clock::time_point not_before{}; // of the next try
    };
    std::optional<int> briefly_blocked(const job::Job &job);

    std::map<int, Waiting> waiting_; // by ordinal
    int last_asked_ = 0;             // the partition whose holders' ages were queried last
};

} // namespace partbackfill::worker
