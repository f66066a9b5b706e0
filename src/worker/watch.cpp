#include "partbackfill/worker/watch.hpp"

#include <algorithm>

#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/settings.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/steps.hpp"

namespace partbackfill::worker {

namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr Milliseconds kBetweenLooks{4};
// To ask how old transactions are takes a query.
constexpr int kLooksPerQuestion = 10;
// Between tries that fail one after the other, though nobody had been in the way: others
// felt them, and what kept them from success is not to be seen, such as an open GRANT.
constexpr Milliseconds kShortestPause{50};
constexpr int kMostDoublings = 5;
// Of the partitions that wait, the first are watched.
constexpr int kMost = 100;

std::vector<engine::TableLock> locks_to_swap(const job::Job &job, const job::Partition &partition) {
    pg::Transaction transaction;
    std::vector<engine::TableLock> locks;
    {
        const pg::PinnedSettings pinned;
        if (const auto leaf = engine::find_leaf(partition.live, job.target))
            locks = method_of(job).tables_to_lock(*leaf, partition.shadow);
    }
    transaction.commit();
    return locks;
}

} // namespace

void Watch::note(const job::Job &job, const job::Partition &partition, Tried tried) {
    if (partition.state != core::PartitionState::ready) {
        forget(partition.ordinal);
        return;
    }
    Waiting &waiting = waiting_[partition.ordinal];
    waiting.locks = locks_to_swap(job, partition);
    waiting.tries = tried == Tried::as_watched ? waiting.tries + 1 : 0;
    waiting.again =
        Clock::now() + (waiting.tries > 0 ? kShortestPause * (1 << std::min(waiting.tries, kMostDoublings))
                                          : Milliseconds(0));
}

void Watch::forget(int ordinal) {
    waiting_.erase(ordinal);
}

void Watch::note_all(const job::Job &job) {
    std::vector<job::Partition> partitions;
    {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            partitions = control.waiting_for_swap(job, kMost);
        }
        transaction.commit();
    }
    const auto waits = [&](int ordinal) {
        return std::any_of(partitions.begin(), partitions.end(),
                           [&](const auto &partition) { return partition.ordinal == ordinal; });
    };
    std::erase_if(waiting_, [&](const auto &known) { return !waits(known.first); });
    for (const job::Partition &partition : partitions)
        if (!waiting_.contains(partition.ordinal))
            note(job, partition, Tried::otherwise);
}

std::optional<int> Watch::free_one() {
    const auto now = Clock::now();
    for (const auto &[ordinal, waiting] : waiting_)
        if (waiting.again <= now && engine::nobody_in_the_way(waiting.locks))
            return ordinal;
    return std::nullopt;
}

std::optional<int> Watch::quick_one(const job::Job &job) {
    auto next = waiting_.upper_bound(asked_);
    if (next == waiting_.end())
        next = waiting_.begin();
    asked_ = next->first;
    if (next->second.again > Clock::now())
        return std::nullopt;
    pg::Transaction transaction;
    const bool quick = engine::none_is_older(next->second.locks, job.lock_timeout);
    transaction.commit();
    return quick ? std::optional(next->first) : std::nullopt;
}

std::optional<int> Watch::wait(const job::Job &job, Milliseconds time) {
    if (waiting_.empty()) {
        pg::wait_latch(time, pg::Wait::idle);
        return std::nullopt;
    }
    const auto end = Clock::now() + time;
    for (int looks = 1; Clock::now() < end; looks++) {
        pg::wait_latch(kBetweenLooks, pg::Wait::backoff);
        if (const auto free = free_one())
            return free;
        if (looks % kLooksPerQuestion == 0)
            if (const auto quick = quick_one(job))
                return quick;
    }
    return std::nullopt;
}

} // namespace partbackfill::worker
