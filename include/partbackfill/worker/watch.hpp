// What keeps the swaps of a job from their locks, looked at every few milliseconds.
//
// A transaction that is old need not hold its locks for long, and one that does may end
// at any time: whoever comes back after a pause comes too late or too early. To look
// costs microseconds, and no one waits for it, since the queue is not entered.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

class Watch {
public:
    // Begins, or goes on, to watch for the partition when it is built and waits for its
    // swap; ends it otherwise. One that was tried because it seemed free and was not is
    // left alone for a moment. In no transaction, as all of this.
    enum class Tried { as_watched, otherwise };
    void note(const job::Job &job, const job::Partition &partition, Tried tried);
    void forget(int ordinal);
    // The same for all partitions of the job that wait and that nobody has in hand.
    void note_all(const job::Job &job);
    // A partition with nobody in the way of its swap, as of now.
    std::optional<int> free_one();
    // The same within that time; or else with nobody in the way but transactions that are
    // young enough to be waited for in the queue.
    std::optional<int> wait(const job::Job &job, std::chrono::milliseconds time);

private:
    using Clock = std::chrono::steady_clock;
    struct Waiting {
        std::vector<engine::TableLock> locks;
        int tries = 0;             // in a row, as watched
        Clock::time_point again{}; // not before
    };
    std::optional<int> quick_one(const job::Job &job);

    std::map<int, Waiting> waiting_; // by ordinal
    int asked_ = 0;                  // of whom it was last asked how old the others are
};

} // namespace partbackfill::worker
