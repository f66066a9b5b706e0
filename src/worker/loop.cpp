#include "partbackfill/worker/loop.hpp"

#include <algorithm>

#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/caches.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/current_job.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/process/worker_slot.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/claim.hpp"
#include "partbackfill/worker/cleanup.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/partition_life.hpp"
#include "partbackfill/worker/publication.hpp"
#include "partbackfill/worker/swap_watch.hpp"
#include "partbackfill/worker/top_up.hpp"

namespace partbackfill::worker {

namespace {

using job::Job;
using job::Milliseconds;
using job::Partition;

// Between polls for something to do while other workers have the rest: short at first, since a job
// ends only when its last worker has seen that nothing is left.
constexpr Milliseconds kShortestIdle{25};
constexpr Milliseconds kLongestIdle{500};
// Between readings of a job's settings in the pause between partitions.
constexpr Milliseconds kSettingsInterval{1000};
// Partitions after which the caches are emptied: often enough to bound them to a few MB, and so rarely
// that filling them again takes no time to speak of.
constexpr int kPartitionsPerCache = 250;
// Tries to get a slot among the workers of the job.
constexpr int kMostJoins = 15;
constexpr Milliseconds kBetweenJoins{200};

// The pause between partitions, by the settings as they are now: the job's delay, and the debt of the
// last partition. Nothing is claimed meanwhile.
void pause_between(std::int64_t id, throttle::Throttler &throttler, TopUp &top_up) {
    using Clock = std::chrono::steady_clock;
    const auto begun = Clock::now();
    for (;;) {
        const auto job = process::read_job(id);
        if (!job || job->state != core::JobState::running || !process::is_own(*job) || !process::has_work(id))
            return;
        top_up.start_lacking(*job);
        const auto pause = std::chrono::ceil<Milliseconds>(begun + job->delay - Clock::now());
        const auto owed = std::chrono::ceil<Milliseconds>(throttler.debt());
        const auto left = std::max(pause, owed);
        if (left <= Milliseconds::zero())
            return;
        throttle::show_idle(id, owed > pause ? throttler.reason() : "");
        throttler.sleep(std::min(left, kSettingsInterval),
                        owed > pause ? pg::Wait::throttle : pg::Wait::delay);
    }
}

// A partition whose swap can have its locks now goes before everything else.
std::optional<Partition> claim_unblocked(const Job &job, SwapWatch &watch) {
    while (const auto ordinal = watch.unblocked()) {
        if (auto claimed = claim_waiting(job, *ordinal))
            return claimed;
        watch.forget(*ordinal);
    }
    return std::nullopt;
}

// Watches for swaps that can have their locks while nothing can be built.
std::optional<Partition> await_swap(const Job &job, SwapWatch &watch, Milliseconds time) {
    watch.observe_all(job);
    const auto ordinal = watch.wait(job, time);
    auto claimed = ordinal ? claim_waiting(job, *ordinal) : std::nullopt;
    if (ordinal && !claimed)
        watch.forget(*ordinal);
    return claimed;
}

enum class Turn { worked, idle, over };

Turn take_turn(std::int64_t id, process::WorkerSlot &slot, throttle::Throttler &throttler, SwapWatch &watch,
               TopUp &top_up, Milliseconds idle_time) {
    const auto job = process::read_job(id);
    if (!job || job->state != core::JobState::running || !process::is_own(*job) || !slot.is_wanted(*job))
        return Turn::over;
    top_up.start_lacking(*job);
    bool orphaned = false;
    auto tried = SwapWatch::Tried::as_watched;
    auto claimed = claim_unblocked(*job, watch);
    if (!claimed) {
        claimed = claim_next(*job, orphaned);
        tried = claimed ? SwapWatch::Tried::otherwise : tried;
    }
    if (!claimed && !process::has_work(id))
        return Turn::over;
    if (!claimed && publish_if_due(*job, throttler))
        return Turn::worked;
    if (!claimed)
        claimed = await_swap(*job, watch, idle_time);
    if (!claimed)
        return Turn::idle;
    work_on(*job, *claimed, orphaned, throttler);
    const bool held = job->publish != job::Publish::each && claimed->state == core::PartitionState::ready;
    if (!held)
        watch.observe(*job, *claimed, tried);
    throttle::show_idle(id);
    if (held || (claimed->is_swapped() && !watch.unblocked()))
        pause_between(id, throttler, top_up);
    return Turn::worked;
}

// Shows the worker as one of the job's; false when the job does not want it.
bool join(std::int64_t id, process::WorkerSlot &slot) {
    locks::share_job(id);
    const auto job = process::read_job(id);
    if (job && (job->state == core::JobState::running ? process::is_own(*job) && slot.is_wanted(*job)
                                                      : !job->tidied))
        return true;
    locks::unshare_job(id);
    return false;
}

// Whether the job runs and has work for a worker that has just left it: the job may have been
// resumed meanwhile.
bool runs_on(std::int64_t id) {
    const auto job = process::read_job(id);
    return job && job->state == core::JobState::running && process::is_own(*job) && process::has_work(id);
}

// Tries for a while to join: the worker that has the slot may be about to leave, or work for a job
// that had the number before the extension was installed anew.
bool join_in_time(std::int64_t id, process::WorkerSlot &slot) {
    for (int tries = 0; !join(id, slot); tries++) {
        if (tries == kMostJoins || !runs_on(id))
            return false;
        pg::sleep(kBetweenJoins, pg::Wait::idle);
    }
    return true;
}

// The exclusive lock of a job that its last worker ends.
class EndLock {
public:
    explicit EndLock(std::int64_t job) : job_(job), held_(locks::try_end_job(job)) {}
    ~EndLock() {
        try {
            release();
        } catch (...) {
            // The session's end releases it; nothing else depends on when.
        }
    }
    EndLock(const EndLock &) = delete;
    EndLock &operator=(const EndLock &) = delete;
    bool held() const noexcept { return held_; }
    void release() {
        if (held_)
            locks::release_end_job(job_);
        held_ = false;
    }

private:
    std::int64_t job_;
    bool held_;
};

// Gives up the end of the job under the lock of its row. A session that stops the job locks the row
// first, and looks for workers then: it finds none and starts one, or this worker sees what it has done.
// Returns whether nothing is left to come back for; `over_if_running` answers for a job that runs.
bool give_up_end(std::int64_t id, EndLock &lock, bool over_if_running) {
    pg::Transaction transaction;
    std::optional<job::Job> job;
    if (pg::extension_usable()) {
        const pg::AsExtensionOwner owner;
        job::JobTable(owner).lock(id);
        job = job::JobTable(owner).find(id);
    }
    injection_point(InjectionPoint::leaving);
    lock.release();
    transaction.commit();
    return !job || (core::is_inactive(job->state) ? job->tidied : over_if_running);
}

// Leaves the job; the last worker ends it. True when no work is left to come back for. A session
// that resumes a job starts workers, which find a slot once it has committed: one of those workers
// sees the work, or the worker that gave up its slot and reads the job after that.
bool leave(std::int64_t id, process::WorkerSlot &slot) {
    slot.leave(id);
    locks::unshare_job(id);
    if (runs_on(id))
        return false;
    EndLock lock(id);
    if (!lock.held())
        return true; // another worker is still there, and comes here later
    const auto job = process::read_job(id);
    const bool runs = job && job->state == core::JobState::running;
    const bool over = !runs || !process::has_work(id);
    const bool ends = job && over && !job->tidied && (!runs || process::is_own(*job));
    if (ends)
        end_job(*job);
    return give_up_end(id, lock, over && !ends);
}

void empty_caches() {
    pg::Transaction transaction;
    pg::empty_caches();
    transaction.commit();
}

} // namespace

void run_job(std::int64_t id) {
    process::WorkerSlot slot;
    throttle::Throttler throttler(id);
    SwapWatch watch;
    TopUp top_up;
    bool joined = false;
    Milliseconds idle_time = kShortestIdle;
    int worked = 0;
    std::string logged; // the last error: it is not logged again while it lasts
    for (int errors = 0;;) {
        try {
            pg::forget_cancel();
            if (!joined && !join_in_time(id, slot))
                return;
            joined = true;
            throttle::show_idle(id);
            const Turn turn = take_turn(id, slot, throttler, watch, top_up, idle_time);
            idle_time = turn == Turn::idle ? std::min(idle_time * 2, kLongestIdle) : kShortestIdle;
            errors = 0;
            if (turn == Turn::worked && ++worked % kPartitionsPerCache == 0)
                empty_caches();
            if (turn == Turn::over) {
                joined = false;
                if (leave(id, slot))
                    return;
            }
        } catch (const job::LostClaim &) {
            // The source may have given up every lock of the session.
            if (!locks::shares_job(id)) {
                slot.forget();
                joined = false;
            }
        } catch (const pg::Error &error) {
            if (error.code() == pg::sqlcode::kQueryCanceled)
                continue;
            if (errors == 0 || error.fields().message != logged)
                process::log_error(id, error.fields());
            logged = error.fields().message;
            errors++;
            try {
                pg::sleep(process::retry_pause(errors), pg::Wait::backoff);
            } catch (const pg::Error &) {
                // A cancel ends the pause early.
            }
        }
    }
}

} // namespace partbackfill::worker
