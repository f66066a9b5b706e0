#include "partbackfill/worker/publication.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/job/job_control.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/publication_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/current_job.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/process/session.hpp"
#include "partbackfill/worker/adoption.hpp"
#include "partbackfill/worker/claim.hpp"
#include "partbackfill/worker/cleanup.hpp"
#include "partbackfill/worker/failure.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/joint_swap.hpp"
#include "partbackfill/worker/outcomes.hpp"
#include "partbackfill/worker/shrinking.hpp"
#include "partbackfill/worker/swap.hpp"
#include "partbackfill/worker/validation.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// The claim on all of a job, beside those on its partitions.
constexpr int kWholeJob = 0;

bool is_publication_due(const job::Job &job) {
    pg::Transaction transaction;
    bool due = false;
    {
        const pg::AsExtensionOwner owner;
        due = job::PublicationTable(owner).is_due(job);
    }
    transaction.commit();
    return due;
}

class Publication {
public:
    Publication(const job::Job &job, throttle::Throttler &throttler)
        : job_(job), throttler_(throttler), swap_(job, parts_, current_) {}

    // False when there is nothing to publish any more.
    bool claim();
    void run();

private:
    void bring_and_swap();
    void fail(const pg::ErrorFields &error);
    bool recover_orphans();
    bool bring_up_to_date();
    StepResult check(Part &part);
    StepResult check_each(Part &part);
    void settle_part(Part &part, const StepResult &result);
    void finish();
    void give_back();

    const job::Job &job_;
    throttle::Throttler &throttler_;
    Parts parts_;
    Part *current_ = nullptr; // whose fault an error is
    JointSwap swap_;
};

bool Publication::claim() {
    pg::Transaction transaction;
    locks::lock_choice(job_.id);
    std::vector<job::Partition> claimed;
    {
        const pg::AsExtensionOwner owner;
        const job::PublicationTable table(owner);
        if (!job::JobTable(owner).keep_running(job_.id) || !table.is_due(job_))
            return false;
        claimed = table.claim_all(job_);
    }
    for (job::Partition &partition : claimed) {
        parts_.push_back(std::make_unique<Part>(job_, std::move(partition)));
        Part &part = *parts_.back();
        // The worker that has just given the partition back may still have it.
        if (!locks::try_claim(job_.id, part.partition.ordinal))
            return false;
        part.lock.emplace(job_.id, part.partition.ordinal);
        if (job::catches_up(job_, part.partition))
            part.catch_up.emplace(job_, part.partition, throttler_);
    }
    transaction.commit();
    if (parts_.empty())
        return false;
    current_ = parts_.front().get();
    return true;
}

// After a second crash the job is left alone for a while, and after too many the partition at which it
// stopped has failed.
bool Publication::recover_orphans() {
    current_ = std::max_element(parts_.begin(), parts_.end(), [](const auto &a, const auto &b) {
                   return a->partition.orphaned < b->partition.orphaned;
               })->get();
    return current_->partition.orphaned == 0 || recover_orphan(job_, current_->partition);
}

StepResult Publication::check(Part &part) {
    job::Partition &partition = part.partition;
    if (partition.settling && !part.marked) {
        rebuild(job_, partition, "its worker ended in the midst of its swap");
        return {StepOutcome::settled};
    }
    if (would_shrink(job_, partition)) // it had failed for that, and was queued again
        return {StepOutcome::would_shrink};
    StepResult result = check_not_emptied(job_, partition);
    if (result.is_done())
        result = adopt_kept(job_, partition);
    if (result.is_done() && part.catch_up)
        result = part.catch_up->run();
    if (result.is_done())
        result = validate(job_, partition);
    if (result.is_done())
        result = part.audits.run(part.catch_up ? &*part.catch_up : nullptr);
    if (result.is_done() && !part.catch_up && lacks_writes(job_, partition))
        result.outcome = StepOutcome::rows_written;
    return result;
}

void Publication::fail(const pg::ErrorFields &error) {
    fail_attempt(job_, current_->partition, error, process::retry_pause(current_->partition.attempts));
}

// As check(); an error is an attempt of that partition that has failed.
StepResult Publication::check_each(Part &part) {
    current_ = &part;
    try {
        return check(part);
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled)
            throw;
        fail(error.fields());
        return {StepOutcome::settled};
    }
}

void Publication::settle_part(Part &part, const StepResult &result) {
    settle(job_, part.partition, result);
    if (part.partition.state == core::PartitionState::skipped)
        announce(part.partition);
}

// Looks at every partition, so that all that have to be built again are built side by side.
bool Publication::bring_up_to_date() {
    bool all = true;
    for (const auto &part : parts_) {
        const StepResult result = check_each(*part);
        all = all && result.is_done();
        settle_part(*part, result);
    }
    return all;
}

void Publication::finish() {
    const auto &swaps = swap_.swaps();
    const Seconds held = Clock::now() - swaps.front().result.locked_at;
    for (std::size_t i = 0; i < parts_.size(); i++)
        finish_swap(job_, parts_[i]->partition, swaps[i].result, held);
    process::log_line(job_.id,
                      fmt::format("published {} partitions in one transaction: held their locks for {:.1f} "
                                  "ms, {:.1f} ms for each",
                                  parts_.size(), held.count() * 1000,
                                  held.count() * 1000 / static_cast<double>(parts_.size())));
    for (const auto &part : parts_)
        tidy_partition(job_, part->partition);
}

void Publication::give_back() {
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::PublicationTable(owner).give_back(job_.id, parts_.front()->partition.claim);
    }
    transaction.commit();
}

void Publication::bring_and_swap() {
    injection_point(InjectionPoint::claimed);
    process::renew_session(job_.id);
    if (!recover_orphans())
        return;
    for (int tries = 0; bring_up_to_date();) {
        const StepResult result = swap_.make();
        if (result.is_done())
            return finish();
        if (result.outcome == StepOutcome::keys_left && !current_->catch_up->is_outrun())
            pg::sleep(process::swap_pause(tries++), pg::Wait::backoff); // writers are not held again at once
        else if (result.outcome != StepOutcome::not_prepared)
            return settle_part(*current_, result);
    }
}

void Publication::run() {
    try {
        bring_and_swap();
    } catch (const job::LostClaim &) {
        give_back();
        throw;
    } catch (const pg::Error &error) {
        if (swap_.is_committed())
            throw; // only tidying has failed
        if (error.code() != pg::sqlcode::kQueryCanceled || !process::was_stopped(job_.id))
            fail(error.fields());
    } catch (const std::bad_alloc &) {
        pg::ErrorFields error;
        error.code = pg::sqlcode::kOutOfMemory;
        error.message = "out of memory";
        fail(error);
    }
    give_back();
}

// One worker publishes; the others have nothing to do meanwhile.
bool try_claim_whole(std::int64_t job) {
    pg::Transaction transaction;
    const bool claimed = locks::try_claim(job, kWholeJob);
    transaction.commit();
    return claimed;
}

} // namespace

bool publish_if_due(const job::Job &job, throttle::Throttler &throttler) {
    if (job.publish == job::Publish::each || !is_publication_due(job) || !try_claim_whole(job.id))
        return false;
    const ClaimLock whole(job.id, kWholeJob);
    Publication publication(job, throttler);
    if (!publication.claim())
        return false;
    publication.run();
    return true;
}

bool begin_publication(std::int64_t id) {
    pg::Transaction transaction;
    std::optional<job::Job> job;
    if (pg::extension_usable()) {
        const Oid role = pg::current_role();
        const pg::AsExtensionOwner owner;
        job::JobTable(owner).lock(id);
        job = job::JobTable(owner).find(id);
        if (!job || job->owner != role || !core::can(job->state, core::JobEvent::publish))
            return false;
        job::JobControl(owner).publish(*job);
    }
    transaction.commit();
    return job && process::register_at_once(*job, 1, 0) > 0;
}

} // namespace partbackfill::worker
