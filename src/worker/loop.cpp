#include "partbackfill/worker/loop.hpp"

#include <random>

#include <fmt/format.h>

#include "partbackfill/core/backoff.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/steps.hpp"

namespace partbackfill::worker {

namespace {

using job::Job;
using job::Milliseconds;
using job::Partition;

// Between looks for something to do while other workers have the rest.
constexpr Milliseconds kIdle{500};
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
bool is_own(const Job &job) { return job.owner == pg::current_role(); }

struct Claimed {
    Partition partition;
    bool orphan = false; // a dead worker left it behind in the middle of a build
};

// Takes up a partition: its row, its session lock, and one more attempt when it
// is to be built.
std::optional<Claimed> claim_next(const Job &job) {
    pg::Transaction transaction;
    std::optional<Claimed> claimed;
    std::vector<int> passed;
    {
        job::ControlTables control;
        while (auto candidate = control.next_candidate(job, passed)) {
            if (!engine::try_claim(job.id, candidate->ordinal)) {
                passed.push_back(candidate->ordinal);
                continue;
            }
            claimed = Claimed{*candidate, candidate->state == core::PartitionState::running};
            control.claim(claimed->partition);
            if (claimed->partition.state == core::PartitionState::running && !claimed->orphan)
                control.begin_attempt(claimed->partition);
            break;
        }
    }
    // Should the commit fail, the session lock must not stay.
    try {
        transaction.commit();
    } catch (...) {
        if (claimed)
            engine::release_claim(job.id, claimed->partition.ordinal);
        throw;
    }
    return claimed;
}

// A worker that died in a build may have died of it: the next try comes after a
// pause that grows, and counts.
void take_over(const Job &job, Partition &partition) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kInternal;
    error.message = fmt::format("the worker that rebuilt partition \"{}\" ended in attempt {}", partition.name,
                                partition.attempts);
    error.detail = "It was terminated, or the server crashed.";
    fail_attempt(job, partition, error, core::crash_pause(partition.attempts));
}

// From where it stands to its swap, or to what keeps it from it.
void advance(const Job &job, Partition &partition, Pacer &pacer) {
    const bool held = partition.state == core::PartitionState::running && holds_writers(job, partition);
    if (partition.state == core::PartitionState::running) {
        show_phase(partition, Phase::creating);
        pacer.begin(partition);
        if (guard_step(job, partition) != StepOutcome::done || create_step(job, partition) != StepOutcome::done)
            return;
        if (!held)
            build_step(job, partition, pacer);
    }
    StepOutcome outcome = StepOutcome::unprepared;
    while (outcome == StepOutcome::unprepared) {
        if (prepare_step(job, partition) != StepOutcome::done)
            return;
        outcome = held ? held_step(job, partition) : swap_step(job, partition);
    }
    if (outcome == StepOutcome::done)
        tidy_step(job, partition);
}

// One partition, whatever becomes of it. A cancel and a lost claim are for the
// caller: the state of the job tells what they mean.
void work_on(const Job &job, Claimed &claimed, Pacer &pacer) {
    const ClaimLock lock(job.id, claimed.partition.ordinal);
    Partition &partition = claimed.partition;
    if (claimed.orphan) {
        take_over(job, partition);
        return;
    }
    try {
        if (partition.state == core::PartitionState::ready)
            check_not_emptied(partition);
        advance(job, partition, pacer);
        if (partition.state == core::PartitionState::skipped)
            announce(partition);
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled) {
            pg::forget_cancel();
            const auto now = read_job(job.id);
            if (!now || now->state != core::JobState::running)
                return;
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

enum class Turn { worked, idle, rests };

Turn take_turn(std::int64_t id, Pacer &pacer) {
    const auto job = read_job(id);
    if (!job || job->finished || job->state != core::JobState::running || !is_own(*job))
        return Turn::rests;
    auto claimed = claim_next(*job);
    if (!claimed)
        return work_is_left(id) ? Turn::idle : Turn::rests;
    work_on(*job, *claimed, pacer);
    show_idle(id);
    const bool done = claimed->partition.state == core::PartitionState::done;
    if (done && job->delay > Milliseconds::zero() && work_is_left(id))
        pg::sleep(job->delay, pg::Wait::delay);
    return Turn::worked;
}

// The last worker to leave ends the job.
void leave(std::int64_t id) {
    engine::unshare_job(id);
    if (!engine::try_end_job(id))
        return; // another worker is still there, and comes here later
    try {
        const auto job = read_job(id);
        if (job && !job->finished && (job->state != core::JobState::running || is_own(*job)))
            end_job(*job);
    } catch (...) {
        engine::release_end_job(id);
        engine::share_job(id); // still a worker of the job: it tries again
        throw;
    }
    engine::release_end_job(id);
}

// Shows the worker as one of the job's; false when the job has ended.
bool join(std::int64_t id) {
    pg::Transaction transaction;
    engine::share_job(id);
    bool visible = false;
    {
        job::ControlTables control;
        const auto job = control.find_job(id);
        visible = job.has_value() && !job->finished;
    }
    transaction.commit();
    return visible;
}

} // namespace

void run_job(std::int64_t id) {
    if (!join(id))
        return;
    show_idle(id);
    Pacer pacer(id);
    for (int errors = 0;;) {
        try {
            pg::forget_cancel();
            const Turn turn = take_turn(id, pacer);
            errors = 0;
            if (turn == Turn::rests) {
                leave(id);
                return;
            }
            if (turn == Turn::idle)
                pg::wait_latch(kIdle, pg::Wait::idle);
        } catch (const job::LostClaim &) {
            continue;
        } catch (const pg::Error &error) {
            if (error.code() == pg::sqlcode::kQueryCanceled)
                continue;
            log_warning(fmt::format("backfill job {}: {}", id, error.fields().message));
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
