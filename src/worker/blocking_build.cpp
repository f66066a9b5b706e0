#include "partbackfill/worker/blocking_build.hpp"

#include <fmt/format.h>

#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/audit.hpp"
#include "partbackfill/worker/build.hpp"
#include "partbackfill/worker/failure.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/steps.hpp"
#include "partbackfill/worker/swap.hpp"
#include "partbackfill/worker/validation.hpp"
#include "partbackfill/worker/writer_locks.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;

// Tries of a swap while writers wait, and the pause between them.
constexpr int kMostTries = 5;
constexpr job::Milliseconds kBetweenTries{100};
// How long a moment without readers in the way is awaited before writers are kept out.
constexpr job::Milliseconds kMoment{1000};

// The steps within the one transaction. Each swap is tried in a subtransaction: its rollback gives back
// the locks of the swap, and keeps those that keep writers out.
class BlockingSteps : public Steps {
public:
    BlockingSteps(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler)
        : job_(job), partition_(partition), throttler_(throttler), audits_(job, partition) {}

    StepResult build() override {
        report_ = worker::build(job_, partition_, throttler_, Speed::full,
                                [this] { audited_ = audits_.run_within(); });
        return {};
    }

    StepResult catch_up() override { return {}; }

    StepResult validate() override {
        throttle::show_phase(partition_, throttle::Phase::swapping);
        return validate_in_blocking_build(job_, partition_);
    }

    StepResult audit() override { return audited_; } // by build()

    StepResult swap() override {
        try {
            pg::Subtransaction subtransaction;
            {
                const locks::BoundedWaits bounded(job_.lock_timeout); // for the row of the partition
                swap_ = exchange(job_, partition_, job::Milliseconds(0), job_.lock_timeout);
            }
            if (swap_.outcome == swap::SwapOutcome::swapped)
                subtransaction.commit();
        } catch (const pg::Error &error) {
            if (!locks::is_contention(error))
                throw;
            return {StepOutcome::locks_not_granted};
        }
        if (swap_.outcome == swap::SwapOutcome::locks_not_granted) {
            const pg::PinnedSettings pinned;
            holders_ = locks::lock_holders(swap_.locks);
            deadlock_ = locks::holders_wait_for_us(swap_.locks);
            others_ = locks::held_by_others(swap_.locks, locks::job_workers(job_.id));
        }
        return result_of(swap_);
    }

    bool tries_again(const StepResult &result) override {
        if (result.outcome != StepOutcome::locks_not_granted || deadlock_ || ++tries_ == kMostTries)
            return false;
        pg::sleep(kBetweenTries, pg::Wait::backoff);
        return true;
    }

    const std::string &report() const noexcept { return report_; }
    const swap::SwapResult &last_swap() const noexcept { return swap_; }
    // The sessions that kept the last swap from its locks, and whether one of them waits for this
    // process: it has read what it now wants to write.
    const std::string &holders() const noexcept { return holders_; }
    bool is_deadlock() const noexcept { return deadlock_; }
    // False when those in the way were workers of the job, or had gone by the time they were looked for.
    bool others_hold() const noexcept { return others_; }

private:
    const job::Job &job_;
    job::Partition &partition_;
    throttle::Throttler &throttler_;
    Audits audits_;
    StepResult audited_;
    std::string report_;
    swap::SwapResult swap_;
    std::string holders_ = locks::kFreeLock;
    bool deadlock_ = false;
    bool others_ = true;
    int tries_ = 0;
};

// What follows once the transaction was rolled back because sessions stayed in the way of the swap. A
// session that waited for the build itself goes on now, a worker of the job that reads the partition for
// another one ends its build, and the partition is tried for as long as for any lock; other sessions may
// stay for ever.
StepResult after_blocked_swap(const job::Job &job, job::Partition &partition, const BlockingSteps &steps) {
    if (partition.rebuilds < kMostRebuilds) {
        rebuild(job, partition, "its swap did not get its locks while it held writers");
        return {StepOutcome::settled};
    }
    if (steps.is_deadlock())
        return {StepOutcome::locks_not_granted, steps.last_swap().locks, steps.last_swap().lock_wait,
                steps.holders() + ", which waits for this build"};
    if (!steps.others_hold())
        return {StepOutcome::locks_not_granted, steps.last_swap().locks, steps.last_swap().lock_wait,
                steps.holders() + " in a build of this job"};
    pg::ErrorFields error;
    error.code = pg::sqlcode::kLockNotAvailable;
    error.message = fmt::format("could not lock partition \"{}\"", partition.name);
    error.detail = fmt::format("The swap waited for a {} in build {} of this partition, which held writers.",
                               steps.holders(), partition.rebuilds + 1);
    error.hint = fmt::format("Start the job again when no transaction keeps the table locked for longer than "
                             "lock_timeout ({} ms), or with a longer one.",
                             job.lock_timeout.count());
    fail_for_good(job, partition, error, ShadowAfter::dropped);
    return {StepOutcome::settled};
}

// Commits a build of which an audit has failed, for people to look at. No worker may find it ready: writers
// go on, and what they write is not noticed.
StepResult keep_to_look_at(pg::Transaction &transaction, const job::Job &job, job::Partition &partition,
                           const pg::ErrorFields &error) {
    job::Keep keep{};
    {
        const locks::BoundedWaits bounded(job.lock_timeout); // for the rows of the job and the partition
        keep = record_failure(partition, error, ShadowAfter::kept_to_look_at);
    }
    transaction.commit();
    finish_failure(job, partition, error, keep);
    return {StepOutcome::settled};
}

StepResult run_in_one_transaction(const job::Job &job, job::Partition &partition,
                                  throttle::Throttler &throttler) {
    const auto asked = Clock::now();
    BlockingSteps steps(job, partition, throttler);
    StepResult result;
    {
        pg::Transaction transaction;
        // A synchronous standby that hangs must not keep writers out.
        pg::execute("SET LOCAL synchronous_commit = local");
        {
            const pg::PinnedSettings pinned;
            checks::check_can_block_writes({partition.live});
        }
        // Nor while the shard moves: its swap would have to wait.
        if (StepResult others = await_others(job, partition); !others.is_done())
            return others;
        std::vector<locks::TableLock> locks;
        // Not for a build that, as things are, could not be swapped, because a reader stays.
        StepOutcome locked = await_swap_locks(job, partition, kMoment, locks);
        if (locked == StepOutcome::done)
            locked = lock_out_writers(job, partition, job.lock_timeout, locks);
        if (locked == StepOutcome::locks_not_granted)
            return {locked, locks, Clock::now() - asked};
        if (locked == StepOutcome::partition_gone) {
            skip(job, partition);
            transaction.commit();
            return {StepOutcome::settled};
        }
        result = build_to_swap(steps, job, partition);
        if (result.outcome == StepOutcome::audit_failed)
            return keep_to_look_at(transaction, job, partition, result.error);
        if (result.is_done()) {
            injection_point(InjectionPoint::swapping, partition);
            transaction.commit();
        }
    }
    if (result.is_done()) {
        process::log_line(job.id, steps.report());
        finish_swap(job, partition, steps.last_swap(), Clock::now() - steps.last_swap().locked_at);
        return result;
    }
    partition.state = core::PartitionState::running; // nothing of this was committed
    if (steps.last_swap().outcome == swap::SwapOutcome::shard_moves)
        return result;
    return result.outcome == StepOutcome::locks_not_granted ? after_blocked_swap(job, partition, steps)
                                                            : result;
}

StepResult try_once(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler) {
    try {
        return run_in_one_transaction(job, partition, throttler);
    } catch (const pg::Error &error) {
        if (partition.state == core::PartitionState::done || partition.state == core::PartitionState::failed)
            throw;
        partition.state = core::PartitionState::running; // nothing of this was committed
        return contended_build(job, partition, throttler, error);
    }
}

} // namespace

StepResult build_blocking_writers(const job::Job &job, job::Partition &partition,
                                  throttle::Throttler &throttler) {
    StepResult result{StepOutcome::not_prepared};
    while (result.outcome == StepOutcome::not_prepared) {
        // Writers do not wait for what can be validated before the rows are there.
        result = validate(job, partition);
        if (result.is_done())
            result = try_once(job, partition, throttler);
    }
    return result;
}

} // namespace partbackfill::worker
