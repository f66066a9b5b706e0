// The functions that SQL calls to change a job's state or pace.
#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/job/pace_options.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/registration.hpp"

namespace partbackfill {

namespace {

// Its workers are interrupted when the calling transaction commits, and the last of
// them tidies up; without one, another process has to.
void stop_workers(const job::Job &job) {
    engine::cancel_workers_at_commit(job.id, worker::kWorkerType);
    if (engine::job_workers(job.id).empty())
        worker::register_tidier(job);
}

// Starts what the job lacks of workers; false when it has them all.
bool start_lacking(const job::Job &job) {
    const auto alive = static_cast<int>(engine::job_workers(job.id).size());
    if (alive == 0) {
        job::ControlTables control;
        control.note_start(job);
    }
    if (core::rests(job.state) && alive == 0)
        worker::register_tidier(job);
    else if (!core::rests(job.state) && alive < job.workers)
        worker::register_workers(job, job.workers - alive, alive);
    return alive == 0;
}

// True when there was something to resume.
bool resume(const job::Job &job) {
    if (job.state == core::JobState::paused) {
        engine::make_schemas(job.id);
        {
            job::ControlTables control;
            control.resume_job(job);
        }
        // All of them, since those that are still there may be about to leave.
        worker::register_workers(job, job.workers, 0);
        return true;
    }
    return !job::at_rest(job) && start_lacking(job);
}

// Of a job that has ended nothing but tidying up is left to do, which runs none of its SQL.
job::Job find_job_to_resume(std::int64_t id) {
    const job::Job job = job::find_job_to_stop(id);
    return core::rests(job.state) && job.state != core::JobState::paused ? job : job::find_own_job(id);
}

std::optional<std::string> given_interval(const pg::Arguments &arguments, int i, const char *name) {
    return arguments.optional_interval(i, name);
}

// What is cleared is "" for alter_job.
std::optional<std::string> cleared(bool given, std::optional<std::string> checked) {
    return given ? std::optional(std::move(checked).value_or("")) : std::nullopt;
}

job::Alteration read_alteration(const pg::Arguments &arguments) {
    job::Alteration alteration;
    if (!arguments.is_null(1))
        alteration.workers = job::checked_workers(arguments.integer(1, "workers"));
    alteration.delay = given_interval(arguments, 2, "delay");
    if (!arguments.is_null(3))
        alteration.nice_ratio = job::checked_nice_ratio(arguments.number(3, "nice_ratio"));
    alteration.max_wal_rate =
        cleared(!arguments.is_null(4), job::checked_wal_rate(arguments.optional_text(4, "max_wal_rate")));
    alteration.max_replica_lag = cleared(
        !arguments.is_null(5), job::checked_replica_lag(given_interval(arguments, 5, "max_replica_lag")));
    alteration.throttle_query = cleared(
        !arguments.is_null(6), job::checked_throttle_query(arguments.optional_text(6, "throttle_query")));
    alteration.min_free_disk =
        cleared(!arguments.is_null(7), job::checked_free_disk(arguments.optional_text(7, "min_free_disk")));
    alteration.lock_timeout = given_interval(arguments, 8, "lock_timeout");
    alteration.swap_patience = given_interval(arguments, 9, "swap_patience");
    if (!arguments.is_null(10))
        alteration.allow_shrink = arguments.boolean(10, "allow_shrink");
    return alteration;
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_cancel: true when there was something to cancel. The job's state changes
// with the calling transaction; what it has not done yet is tidied away after that.
PARTBACKFILL_FUNCTION(partbackfill_cancel) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_cancel()");
    const job::Job job = job::find_job_to_stop(arguments.bigint(0, "job"));
    if (!core::can(job.state, core::JobEvent::cancel))
        PG_RETURN_BOOL(false);
    {
        job::ControlTables control;
        control.cancel_job(job);
    }
    stop_workers(job);
    PG_RETURN_BOOL(true);
}

// backfill_pause: true when the job ran. No swap follows; a build that is under way is
// broken off, and its attempt does not count. What is built stays.
PARTBACKFILL_FUNCTION(partbackfill_pause) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_pause()");
    const job::Job job = job::find_job_to_stop(arguments.bigint(0, "job"));
    if (!core::can(job.state, core::JobEvent::pause))
        PG_RETURN_BOOL(false);
    {
        job::ControlTables control;
        control.lock_job(job.id); // no claim is committed from here on
        control.pause_job(job, engine::claims_of(job.id));
    }
    stop_workers(job);
    PG_RETURN_BOOL(true);
}

// backfill_resume: how many jobs were started again: paused ones, and those that have
// no worker any more. Without a number it passes over those of others.
PARTBACKFILL_FUNCTION(partbackfill_resume) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_resume()");
    if (!arguments.is_null(0))
        PG_RETURN_INT32(resume(find_job_to_resume(arguments.bigint(0, "job"))) ? 1 : 0);
    std::vector<job::Job> jobs;
    {
        job::ControlTables control;
        jobs = control.unfinished_jobs();
    }
    int resumed = 0;
    // Another role that took the name of a job's schema shall not keep the others paused.
    const auto can_go_on = [](const job::Job &job) {
        return job.state != core::JobState::paused || engine::try_make_schemas(job.id);
    };
    for (const job::Job &job : jobs)
        if (pg::may_act_as(job.owner) && can_go_on(job))
            resumed += resume(job) ? 1 : 0;
    PG_RETURN_INT32(resumed);
}

// backfill_retry: how many failed partitions are queued again, with all their
// attempts; one that is built only swaps. Of a paused job they wait until it is resumed.
PARTBACKFILL_FUNCTION(partbackfill_retry) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_retry()");
    const job::Job job = job::find_own_job(arguments.bigint(0, "job"));
    if (job.state == core::JobState::canceled)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} was canceled", job.id), "", "Start a new job.");
    int queued = 0;
    {
        job::ControlTables control;
        queued = control.retry_job(job);
    }
    if (job.state == core::JobState::failed) {
        engine::make_schemas(job.id);
        worker::register_workers(job, job.workers, 0);
    }
    PG_RETURN_INT32(queued);
}

// backfill_alter: workers obey within a second or two, also in the middle of a load;
// one that is too many leaves after its partition.
PARTBACKFILL_FUNCTION(partbackfill_alter) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_alter()");
    const job::Job job = job::find_own_job(arguments.bigint(0, "job"));
    if (job.state == core::JobState::done || job.state == core::JobState::canceled)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} has ended", job.id),
                  fmt::format("Its state is \"{}\".", core::name(job.state)));
    const job::Alteration alteration = read_alteration(arguments);
    {
        job::ControlTables control;
        control.alter_job(job.id, alteration);
    }
    // One that would be too many finds no place, and leaves.
    if (job.state == core::JobState::running && alteration.workers) {
        const auto alive = static_cast<int>(engine::job_workers(job.id).size());
        worker::register_workers(job, *alteration.workers - alive, alive);
    }
    PG_RETURN_VOID();
}
