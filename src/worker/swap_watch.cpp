#include "partbackfill/worker/swap_watch.hpp"

#include <algorithm>

#include "partbackfill/job/claim_queue.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/live_partition.hpp"

namespace partbackfill::worker {

namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr Milliseconds kLockPollInterval{4};
// The age of transactions takes a query, and is asked for in each of so many polls.
constexpr int kPollsPerQuery = 10;
// Between tries that fail one after the other although no session was in the way: the tries were
// felt by other sessions, and the obstacle is no table lock, but an open GRANT for instance.
constexpr Milliseconds kShortestPause{50};
constexpr int kMostDoublings = 5;
// The first partitions that wait are watched, up to so many.
constexpr int kMostWatched = 100;

std::vector<locks::TableLock> locks_to_swap(const job::Job &job, const job::Partition &partition) {
    pg::Transaction transaction;
    std::vector<locks::TableLock> locks;
    {
        const pg::PinnedSettings pinned;
        if (const auto leaf = catalog::find_leaf(partition.live, job.target))
            locks = method_of(job).tables_to_lock(*leaf, partition.shadow);
    }
    transaction.commit();
    return locks;
}

} // namespace

void SwapWatch::observe(const job::Job &job, const job::Partition &partition, Tried tried) {
    if (partition.state != core::PartitionState::ready) {
        forget(partition.ordinal);
        return;
    }
    Waiting &waiting = waiting_[partition.ordinal];
    waiting.locks = locks_to_swap(job, partition);
    waiting.tries = tried == Tried::as_watched ? waiting.tries + 1 : 0;
    waiting.not_before =
        Clock::now() + (waiting.tries > 0 ? kShortestPause * (1 << std::min(waiting.tries, kMostDoublings))
                                          : Milliseconds(0));
}

void SwapWatch::forget(int ordinal) {
    waiting_.erase(ordinal);
}

void SwapWatch::observe_all(const job::Job &job) {
    std::vector<job::Partition> partitions;
    {
        pg::Transaction transaction;
        {
            const pg::AsExtensionOwner owner;
            partitions = job::ClaimQueue(owner).waiting_for_swap(job, kMostWatched);
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
            observe(job, partition, Tried::otherwise);
}

std::optional<int> SwapWatch::unblocked() {
    const auto now = Clock::now();
    for (const auto &[ordinal, waiting] : waiting_)
        if (waiting.not_before <= now && locks::none_in_the_way(waiting.locks))
            return ordinal;
    return std::nullopt;
}

std::optional<int> SwapWatch::briefly_blocked(const job::Job &job) {
    auto next = waiting_.upper_bound(last_asked_);
    if (next == waiting_.end())
        next = waiting_.begin();
    last_asked_ = next->first;
    if (next->second.not_before > Clock::now())
        return std::nullopt;
    pg::Transaction transaction;
    const bool quick = locks::none_older_than(next->second.locks, job.lock_timeout);
    transaction.commit();
    return quick ? std::optional(next->first) : std::nullopt;
}

std::optional<int> SwapWatch::wait(const job::Job &job, Milliseconds time) {
    if (waiting_.empty()) {
        pg::wait_latch(time, pg::Wait::idle);
        return std::nullopt;
    }
    const auto end = Clock::now() + time;
    for (int polls = 1; Clock::now() < end; polls++) {
        pg::wait_latch(kLockPollInterval, pg::Wait::backoff);
        if (const auto free = unblocked())
            return free;
        if (polls % kPollsPerQuery == 0)
            if (const auto quick = briefly_blocked(job))
                return quick;
    }
    return std::nullopt;
}

} // namespace partbackfill::worker
