#include "partbackfill/worker/partition_life.hpp"

#include <new>

#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/process/current_job.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/process/session.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/adoption.hpp"
#include "partbackfill/worker/audit.hpp"
#include "partbackfill/worker/blocking_build.hpp"
#include "partbackfill/worker/build.hpp"
#include "partbackfill/worker/capture.hpp"
#include "partbackfill/worker/catch_up.hpp"
#include "partbackfill/worker/claim.hpp"
#include "partbackfill/worker/claim_lock.hpp"
#include "partbackfill/worker/cleanup.hpp"
#include "partbackfill/worker/creation.hpp"
#include "partbackfill/worker/failure.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/outcomes.hpp"
#include "partbackfill/worker/steps.hpp"
#include "partbackfill/worker/swap.hpp"
#include "partbackfill/worker/validation.hpp"

namespace partbackfill::worker {

namespace {

using job::Job;
using job::Partition;

// The steps in transactions of their own.
class SeparateSteps : public Steps {
public:
    SeparateSteps(const Job &job, Partition &partition, throttle::Throttler &throttler)
        : job_(job), partition_(partition), throttler_(throttler), audits_(job, partition) {
        if (job::catches_up(job, partition))
            catch_up_.emplace(job_, partition_, throttler_);
    }

    StepResult build() override {
        return partition_.state == core::PartitionState::running
                   ? build_partition(job_, partition_, throttler_)
                   : StepResult{};
    }
    StepResult validate() override {
        // Foreign keys of a shadow keep others from deleting what it refers to, for as long as it waits.
        return job_.publish == job::Publish::each ? worker::validate(job_, partition_) : StepResult{};
    }
    StepResult catch_up() override { return catch_up_ ? catch_up_->run() : StepResult{}; }
    StepResult audit() override { return audits_.run(catch_up_ ? &*catch_up_ : nullptr); }
    StepResult swap() override {
        if (job_.publish != job::Publish::each)
            return {StepOutcome::held};
        return swap_partition(job_, partition_, catch_up_ ? &*catch_up_ : nullptr, audits_);
    }
    bool tries_again(const StepResult &result) override {
        if (result.outcome != StepOutcome::keys_left || catch_up_->is_outrun())
            return result.outcome == StepOutcome::not_prepared;
        pg::sleep(process::swap_pause(tries_++), pg::Wait::backoff); // writers are not held again at once
        return true;
    }

private:
    const Job &job_;
    Partition &partition_;
    throttle::Throttler &throttler_;
    std::optional<CatchUp> catch_up_;
    Audits audits_;
    int tries_ = 0;
};

StepResult begin(const Job &job, Partition &partition, throttle::Throttler &throttler) {
    throttle::show_phase(partition, throttle::Phase::creating);
    throttler.wait_before_build(partition);
    StepResult result = capture_writes(job, partition);
    if (result.is_done())
        result = create_shadow(job, partition);
    return result;
}

// From where the partition stands to its swap, or to what keeps it from that.
void advance(const Job &job, Partition &partition, throttle::Throttler &throttler) {
    const bool is_new = partition.state == core::PartitionState::running;
    StepResult result = adopt_kept(job, partition);
    if (is_new)
        result = begin(job, partition, throttler);
    if (result.is_done() && is_new && blocks_writers(job, partition))
        result = build_blocking_writers(job, partition, throttler);
    else if (result.is_done()) {
        SeparateSteps steps(job, partition, throttler);
        result = build_to_swap(steps, job, partition);
    }
    settle(job, partition, result);
    if (result.is_done())
        tidy_partition(job, partition);
}

void advance_from_claim(const Job &job, Partition &partition, bool orphaned, throttle::Throttler &throttler) {
    if (orphaned && !recover_orphan(job, partition))
        return;
    injection_point(InjectionPoint::claimed, partition);
    process::renew_session(job.id);
    if (partition.state == core::PartitionState::ready && partition.settling)
        return rebuild(job, partition, "its worker ended in the midst of its swap");
    if (partition.state == core::PartitionState::ready)
        if (const StepResult result = check_not_emptied(job, partition); !result.is_done())
            return settle(job, partition, result);
    advance(job, partition, throttler);
    if (partition.state == core::PartitionState::skipped)
        announce(partition);
}

// An attempt can fail in any way when the partition is dropped in its midst: it is skipped, as at its turn.
void settle_failure(const Job &job, Partition &partition, const pg::ErrorFields &error) {
    if (!is_gone(job, partition))
        return fail_attempt(job, partition, error, process::retry_pause(partition.attempts));
    settle(job, partition, {StepOutcome::partition_gone});
    if (partition.state == core::PartitionState::skipped)
        announce(partition);
}

} // namespace

void work_on(const Job &job, Partition &partition, bool orphaned, throttle::Throttler &throttler) {
    const ClaimLock lock(job.id, partition.ordinal);
    try {
        advance_from_claim(job, partition, orphaned, throttler);
    } catch (const job::LostClaim &) {
        give_back_if_paused(partition);
        throw;
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled && process::was_stopped(job.id)) {
            give_back_if_paused(partition);
            return;
        }
        if (partition.is_swapped())
            throw; // it is swapped, only tidying has failed
        settle_failure(job, partition, error.fields());
    } catch (const std::bad_alloc &) {
        pg::ErrorFields error;
        error.code = pg::sqlcode::kOutOfMemory;
        error.message = "out of memory";
        fail_attempt(job, partition, error, process::retry_pause(partition.attempts));
    }
}

} // namespace partbackfill::worker
