#include "partbackfill/worker/live_partition.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/job/leftovers.hpp"
#include "partbackfill/locks/lock_waits.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/throttle/activity.hpp"

namespace partbackfill::worker {

const swap::SwapMethod &method_of(const job::Job &job) {
    return swap::swap_method(job.swap);
}

std::vector<Oid> proofs_on(Oid partition) {
    const pg::AsExtensionOwner owner;
    return job::LeftoverRows(owner).proofs_on(partition);
}

std::optional<catalog::Leaf> find_live(const job::Job &job, const job::Partition &partition) {
    auto leaf = catalog::find_same_leaf(partition.live, job.target, partition.bound);
    if (!catalog::is_in_place(job.target, job.shard))
        return std::nullopt;
    if (leaf)
        method_of(job).check_rights(*leaf);
    return leaf;
}

bool is_gone(const job::Job &job, const job::Partition &partition) {
    try {
        const pg::Transaction transaction; // its end changes nothing
        const pg::PinnedSettings pinned;
        return !catalog::find_same_leaf(partition.live, job.target, partition.bound) ||
               !catalog::is_in_place(job.target, job.shard);
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled)
            throw;
        return false; // one that is hidden from queries, for one
    }
}

void lock_live(const job::Job &job, const job::Partition &partition, throttle::Throttler &throttler,
               const std::function<bool()> &work) {
    constexpr std::chrono::milliseconds kBetweenTries{100};
    using Clock = std::chrono::steady_clock;
    const pg::PinnedSettings pinned;
    const std::vector<locks::TableLock> locks{{partition.live, locks::LockMode::access_share}};
    const auto give_up = [&](const std::string &why) {
        pg::raise(pg::sqlcode::kLockNotAvailable, fmt::format("{}, {}", locks::lock_holders(locks), why));
    };
    const auto asked = Clock::now();
    const auto run_under_lock = [&] {
        pg::Subtransaction subtransaction; // its rollback gives back the locks
        const bool locked = locks::lock_politely(locks, job.lock_timeout);
        throttler.exclude_lock_wait(Clock::now() - asked);
        if (locked && work())
            subtransaction.commit();
        return locked;
    };
    while (!run_under_lock()) {
        if (locks::holders_wait_for_us(locks))
            give_up("which waits for this build");
        if (const auto waiter = locks::waiter_since(locks::kLongestHold))
            give_up(fmt::format("while {} waits for this build", *waiter));
        if (throttler.waited().locked >= core::Seconds(job.swap_patience))
            give_up("for longer than swap_patience");
        throttle::show_waiting(throttler.waited(), locks::lock_holders(locks));
        pg::sleep(kBetweenTries, pg::Wait::backoff);
    }
    throttle::show_waiting(throttler.waited(), "");
}

} // namespace partbackfill::worker
