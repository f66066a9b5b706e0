// The functions that SQL calls to change a job's state or options.
#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/job/job_control.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/option_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/job/revert_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/shadow/job_schemas.hpp"

namespace partbackfill {

namespace {

// Interrupts the job's workers when the calling transaction commits; the last of them tidies
// up. A job without workers gets one process that tidies up.
void stop_workers(const job::Job &job) {
    locks::cancel_workers_at_commit(job.id, process::kWorkerType);
    if (locks::job_workers(job.id).empty())
        process::register_tidier(job);
}

// Returns whether there was something to resume.
bool resume(const job::Job &job) {
    if (job.state == core::JobState::paused) {
        shadow::make_schemas(job.id);
        {
            const pg::AsExtensionOwner owner;
            job::JobControl(owner).resume(job);
        }
        // All workers, since those that are still alive may be about to leave.
        process::register_workers(job, job.workers, 0);
        return true;
    }
    if (job::is_settled(job) || process::start_missing_workers(job, process::StartTime::at_commit).alive > 0)
        return false;
    const pg::AsExtensionOwner owner;
    job::JobControl(owner).note_start(job);
    return true;
}

void check_is_not_reverted(const job::Job &job, const char *what) {
    if (job.reverts_from)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} cannot be {} while it is being reverted", job.id, what), "",
                  fmt::format("Wait for it with backfill_wait({0}), or end that with backfill_cancel({0}).",
                              job.id));
}

// A job that has ended has only tidying up left, which runs none of its owner's SQL: the owner of
// the table may have that done.
job::Job find_job_to_resume(std::int64_t id) {
    const job::Job job = job::find_job_to_stop(id);
    return core::is_inactive(job.state) && job.state != core::JobState::paused ? job : job::find_own_job(id);
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_cancel: returns whether there was something to cancel. The job's state changes
// with the calling transaction; shadows and triggers are dropped after it. A revert is ended only: partitions
// that are not reverted yet stay as they are.
PARTBACKFILL_FUNCTION(partbackfill_cancel) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_cancel()");
    const job::Job job = job::lock_job_to_stop(arguments.bigint(0, "job"));
    if (!core::can(job.state, core::JobEvent::cancel))
        PG_RETURN_BOOL(false);
    {
        const pg::AsExtensionOwner owner;
        if (job.reverts_from)
            job::give_up_revert(owner, job, nullptr);
        else
            job::JobControl(owner).cancel(job);
    }
    stop_workers(job);
    PG_RETURN_BOOL(true);
}

// backfill_pause: returns whether the job ran. No swap follows; a running build is
// canceled, and its attempt does not count. What is built stays.
PARTBACKFILL_FUNCTION(partbackfill_pause) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_pause()");
    const job::Job job = job::lock_job_to_stop(arguments.bigint(0, "job"));
    if (!core::can(job.state, core::JobEvent::pause))
        PG_RETURN_BOOL(false);
    check_is_not_reverted(job, "paused");
    {
        const pg::AsExtensionOwner owner;
        job::JobControl(owner).pause(job, locks::claims_of(job.id));
    }
    stop_workers(job);
    PG_RETURN_BOOL(true);
}

// backfill_resume: returns how many jobs were started again: paused ones, and those that have
// no worker any more. Without a number it ignores the jobs that the caller may not control.
PARTBACKFILL_FUNCTION(partbackfill_resume) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_resume()");
    if (!arguments.is_null(0))
        PG_RETURN_INT32(resume(find_job_to_resume(arguments.bigint(0, "job"))) ? 1 : 0);
    std::vector<job::Job> jobs;
    {
        const pg::AsExtensionOwner owner;
        jobs = job::JobTable(owner).unfinished();
    }
    int resumed = 0;
    // A role that took the name of one job's schema must not keep the other jobs paused.
    const auto can_go_on = [](const job::Job &job) {
        return job.state != core::JobState::paused || shadow::try_make_schemas(job.id);
    };
    for (const job::Job &job : jobs)
        if (pg::may_act_as(job.owner) && can_go_on(job))
            resumed += resume(job) ? 1 : 0;
    PG_RETURN_INT32(resumed);
}

// backfill_retry: returns how many failed partitions are queued again, with all their
// attempts; a partition that is built only swaps. Those of a paused job wait until it is resumed.
PARTBACKFILL_FUNCTION(partbackfill_retry) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_retry()");
    const job::Job job = job::lock_own_job(arguments.bigint(0, "job"));
    if (job.state == core::JobState::canceled)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} was canceled", job.id), "", "Start a new job.");
    check_is_not_reverted(job, "retried");
    int queued = 0;
    {
        const pg::AsExtensionOwner owner;
        queued = job::JobControl(owner).retry(job);
    }
    if (job.state == core::JobState::failed) {
        shadow::make_schemas(job.id);
        process::register_workers(job, job.workers, 0);
    }
    PG_RETURN_INT32(queued);
}

// backfill_alter: workers obey within two seconds, also in the middle of a load; a
// worker that is one too many leaves after its partition.
PARTBACKFILL_FUNCTION(partbackfill_alter_1_1) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_alter()");
    const job::Job job = job::find_own_job(arguments.bigint(0, "job"));
    if (job.state == core::JobState::done || job.state == core::JobState::canceled ||
        job.state == core::JobState::reverted)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} has ended", job.id),
                  fmt::format("Its state is \"{}\".", core::name(job.state)));
    const job::Alteration alteration = job::read_alteration(arguments, 1);
    {
        const pg::AsExtensionOwner owner;
        job::JobControl(owner).alter(job.id, alteration);
    }
    // A worker too many finds no slot of the job, and leaves.
    if (job.state == core::JobState::running && alteration.gives("workers")) {
        const auto alive = static_cast<int>(locks::job_workers(job.id).size());
        process::register_workers(job, alteration.values.workers - alive, alive);
    }
    PG_RETURN_VOID();
}
