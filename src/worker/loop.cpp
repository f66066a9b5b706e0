#include "partbackfill/worker/loop.hpp"

#include <random>

#include <fmt/format.h>

#include "partbackfill/core/backoff.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/claim.hpp"
#include "partbackfill/worker/fault.hpp"
#include "partbackfill/worker/registration.hpp"
#include "partbackfill/worker/session.hpp"
#include "partbackfill/worker/steps.hpp"
#include "partbackfill/worker/watch.hpp"

namespace partbackfill::worker {

namespace {

using job::Job;
using job::Milliseconds;
using job::Partition;

// Between looks for something to do while other workers have the rest: short at first,
// since a job ends only when its last worker has seen that nothing is left.
constexpr Milliseconds kShortestIdle{25};
constexpr Milliseconds kLongestIdle{500};
// Between looks at a job's settings in the pause between partitions.
constexpr Milliseconds kLook{1000};
// For a place among the workers of its job.
constexpr int kJoinLooks = 15;
constexpr Milliseconds kBetweenJoins{200};
// After an attempt that failed, and after an error outside of any partition.
constexpr Milliseconds kRetryBase{1000};
constexpr Milliseconds kRetryCap{60000};

Milliseconds retry_pause(int attempts) {
    std::random_device device;
    const double jitter = std::uniform_real_distribution<double>(0, 1)(device);
    return core::backoff(attempts - 1, jitter, kRetryBase, kRetryCap);
}

// The session lock of a claim; gone with the object.
class ClaimLock {
public:
    ClaimLock(std::int64_t job, int ordinal) : job_(job), ordinal_(ordinal) {}
    ~ClaimLock() {
        try {
            engine::release_claim(job_, ordinal_);
        } catch (...) {
            // The session's end releases it; nothing else depends on when.
        }
    }
    ClaimLock(const ClaimLock &) = delete;
    ClaimLock &operator=(const ClaimLock &) = delete;

private:
    std::int64_t job_;
    int ordinal_;
};

// A worker's place among those of its job; 0 is none.
class Place {
public:
    // The lowest that is free and not above `workers`; false when there is none that
    // is lower than the one that it has.
    bool find(const Job &job) {
        for (int place = 1; place <= job.workers && (place_ == 0 || place < place_); place++)
            if (engine::try_place(job.id, place)) {
                leave(job.id);
                place_ = place;
                return true;
            }
        return false;
    }
    void leave(std::int64_t job) {
        if (place_ != 0)
            engine::release_place(job, place_);
        place_ = 0;
    }
    void lost() { place_ = 0; }
    // Whether the job still wants so many workers; takes a lower place if it can.
    bool is_wanted(const Job &job) { return (place_ != 0 && place_ <= job.workers) || find(job); }

private:
    int place_ = 0;
};

// Nothing when the job is gone, or the extension with it.
std::optional<Job> read_job(std::int64_t id) {
    pg::Transaction transaction;
    std::optional<Job> job;
    if (pg::extension_installed()) {
        job::ControlTables control;
        job = control.find_job(id);
    }
    transaction.commit();
    return job;
}

// A worker does a job only as the role that started it: its number alone could
// be another's, after the extension was dropped and installed again. (A job that
// is canceled is tidied as the role that canceled it.)
bool is_own(const Job &job) {
    return job.owner == pg::current_role();
}

// From where it stands to its swap, or to what keeps it from it.
void advance(const Job &job, Partition &partition, Pacer &pacer) {
    const bool held = partition.state == core::PartitionState::running && holds_writers(job, partition);
    if (partition.state == core::PartitionState::running) {
        show_phase(partition, Phase::creating);
        pacer.begin(partition);
        if (guard_step(job, partition) != StepOutcome::done ||
            create_step(job, partition) != StepOutcome::done)
            return;
        if (!held && build_step(job, partition, pacer) != StepOutcome::done)
            return;
    }
    if (!held && check_shrink_step(job, partition) != StepOutcome::done)
        return;
    StepOutcome outcome = StepOutcome::unprepared;
    while (outcome == StepOutcome::unprepared) {
        if (prepare_step(job, partition) != StepOutcome::done)
            return;
        outcome = held ? held_step(job, partition, pacer) : swap_step(job, partition);
    }
    if (outcome == StepOutcome::done)
        tidy_step(job, partition);
}

// One partition, whatever becomes of it. A cancel and a lost claim are for the
// caller: the state of the job tells what they mean.
void work_on(const Job &job, Partition &partition, bool orphan, Pacer &pacer) {
    const ClaimLock lock(job.id, partition.ordinal);
    try {
        if (orphan && !take_over(job, partition))
            return;
        reach("claim", partition);
        renew_session(job.id);
        if (partition.state == core::PartitionState::ready)
            check_not_emptied(partition);
        advance(job, partition, pacer);
        if (partition.state == core::PartitionState::skipped)
            announce(partition);
    } catch (const job::LostClaim &) {
        give_back_if_paused(partition);
        throw;
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled) {
            pg::forget_cancel();
            const auto now = read_job(job.id);
            if (!now || now->state != core::JobState::running) {
                give_back_if_paused(partition);
                return;
            }
        }
        if (partition.state == core::PartitionState::done)
            throw; // it is swapped; what failed is only tidying
        fail_attempt(job, partition, error.fields(), retry_pause(partition.attempts));
    } catch (const std::bad_alloc &) {
        pg::ErrorFields error;
        error.code = pg::sqlcode::kOutOfMemory;
        error.message = "out of memory";
        fail_attempt(job, partition, error, retry_pause(partition.attempts));
    }
}

bool work_is_left(std::int64_t id) {
    pg::Transaction transaction;
    job::Census census;
    {
        job::ControlTables control;
        census = control.census(id);
    }
    transaction.commit();
    return census.claimable > 0;
}

// Has workers come that the job lacks, once there is room for them: one at a time, and
// less often while they do not stay.
class TopUp {
public:
    void look(const Job &job) {
        if (Clock::now() < next_)
            return;
        pg::Transaction transaction;
        const auto alive = static_cast<int>(engine::job_workers(job.id).size()) + 1;
        int wanted = 0;
        if (alive < job.workers) {
            job::ControlTables control;
            wanted = std::min(job.workers, control.census(job.id).claimable);
        }
        const bool lacking = alive < wanted;
        if (lacking && register_at_once(job, 1, alive) > 0)
            pause_ = std::min(pause_ * 2, kLongest);
        transaction.commit();
        if (!lacking)
            pause_ = kShortest;
        next_ = Clock::now() + pause_;
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr Milliseconds kShortest{2000};
    static constexpr Milliseconds kLongest{60000};
    Milliseconds pause_ = kShortest;
    Clock::time_point next_ = Clock::now() + kShortest;
};

// The pause between partitions, as the job wants it by now: its delay, and what the
// last one still owes. Nothing is claimed meanwhile.
void rest(std::int64_t id, Pacer &pacer, TopUp &top_up) {
    using Clock = std::chrono::steady_clock;
    const auto begun = Clock::now();
    for (;;) {
        const auto job = read_job(id);
        if (!job || job->state != core::JobState::running || !is_own(*job) || !work_is_left(id))
            return;
        top_up.look(*job);
        const auto pause = std::chrono::ceil<Milliseconds>(begun + job->delay - Clock::now());
        const auto owed = std::chrono::ceil<Milliseconds>(pacer.owes());
        const auto left = std::max(pause, owed);
        if (left <= Milliseconds::zero())
            return;
        show_idle(id, owed > pause ? pacer.reason() : "");
        pacer.rest(std::min(left, kLook), owed > pause ? pg::Wait::throttle : pg::Wait::delay);
    }
}

// A swap whose moment has come goes before everything else.
std::optional<Partition> claim_free(const Job &job, Watch &watch) {
    while (const auto ordinal = watch.free_one()) {
        if (auto claimed = claim_waiting(job, *ordinal))
            return claimed;
        watch.forget(*ordinal);
    }
    return std::nullopt;
}

// Nothing is to be built or tried by now: until something is, swaps are watched for.
std::optional<Partition> idle(const Job &job, Watch &watch, Milliseconds time) {
    watch.note_all(job);
    const auto ordinal = watch.wait(job, time);
    auto claimed = ordinal ? claim_waiting(job, *ordinal) : std::nullopt;
    if (ordinal && !claimed)
        watch.forget(*ordinal);
    return claimed;
}

enum class Turn { worked, idle, over };

Turn take_turn(std::int64_t id, Place &place, Pacer &pacer, Watch &watch, TopUp &top_up,
               Milliseconds idle_time) {
    const auto job = read_job(id);
    if (!job || job->state != core::JobState::running || !is_own(*job) || !place.is_wanted(*job))
        return Turn::over;
    top_up.look(*job);
    bool orphan = false;
    auto tried = Watch::Tried::as_watched;
    auto claimed = claim_free(*job, watch);
    if (!claimed) {
        claimed = claim_next(*job, orphan);
        tried = claimed ? Watch::Tried::otherwise : tried;
    }
    if (!claimed && !work_is_left(id))
        return Turn::over;
    if (!claimed)
        claimed = idle(*job, watch, idle_time);
    if (!claimed)
        return Turn::idle;
    work_on(*job, *claimed, orphan, pacer);
    watch.note(*job, *claimed, tried);
    show_idle(id);
    if (claimed->state == core::PartitionState::done && !watch.free_one())
        rest(id, pacer, top_up);
    return Turn::worked;
}

// Shows the worker as one of the job's; false when the job does not want it.
bool join(std::int64_t id, Place &place) {
    engine::share_job(id);
    const auto job = read_job(id);
    if (job && (job->state == core::JobState::running ? is_own(*job) && place.is_wanted(*job) : !job->tidied))
        return true;
    engine::unshare_job(id);
    return false;
}

// Whether the job runs and has work for a worker that just took leave of it: it may
// have been resumed meanwhile.
bool runs_on(std::int64_t id) {
    const auto job = read_job(id);
    return job && job->state == core::JobState::running && is_own(*job) && work_is_left(id);
}

// One that finds no place looks again for a while: who has it may be about to leave, or
// be of a job that had the number before the extension was installed anew.
bool join_in_time(std::int64_t id, Place &place) {
    for (int looks = 0; !join(id, place); looks++) {
        if (looks == kJoinLooks || !runs_on(id))
            return false;
        pg::sleep(kBetweenJoins, pg::Wait::idle);
    }
    return true;
}

// The last worker to leave ends the job. True when there is nothing to come back for.
// Whoever resumes a job starts workers that find a place once he has committed: one
// of them, or the one that gave up its place and looks at the job after that.
bool leave(std::int64_t id, Place &place) {
    place.leave(id);
    engine::unshare_job(id);
    if (runs_on(id))
        return false;
    if (!engine::try_end_job(id))
        return true; // another worker is still there, and comes here later
    bool over = true;
    try {
        const auto job = read_job(id);
        const bool runs = job && job->state == core::JobState::running;
        over = !runs || !work_is_left(id);
        if (job && over && !job->tidied && (!runs || is_own(*job))) {
            end_job(*job);
            const auto after = read_job(id);
            over = !after || job::at_rest(*after);
        }
    } catch (...) {
        engine::release_end_job(id);
        throw;
    }
    engine::release_end_job(id);
    return over;
}

} // namespace

void run_job(std::int64_t id) {
    Place place;
    Pacer pacer(id);
    Watch watch;
    TopUp top_up;
    bool joined = false;
    Milliseconds idle_time = kShortestIdle;
    std::string told; // to the log, of the last error: not again while it lasts
    for (int errors = 0;;) {
        try {
            pg::forget_cancel();
            if (!joined && !join_in_time(id, place))
                return;
            joined = true;
            show_idle(id);
            const Turn turn = take_turn(id, place, pacer, watch, top_up, idle_time);
            idle_time = turn == Turn::idle ? std::min(idle_time * 2, kLongestIdle) : kShortestIdle;
            errors = 0;
            if (turn == Turn::over) {
                joined = false;
                if (leave(id, place))
                    return;
            }
        } catch (const job::LostClaim &) {
            // The source may have given up every lock of the session.
            if (!engine::shares_job(id)) {
                place.lost();
                joined = false;
            }
        } catch (const pg::Error &error) {
            if (error.code() == pg::sqlcode::kQueryCanceled)
                continue;
            if (errors == 0 || error.fields().message != told)
                log_warning(fmt::format("backfill job {}: {}", id, error.fields().message));
            told = error.fields().message;
            errors++;
            try {
                pg::sleep(retry_pause(errors), pg::Wait::backoff);
            } catch (const pg::Error &) {
                // A cancel ends the pause early.
            }
        }
    }
}

} // namespace partbackfill::worker
