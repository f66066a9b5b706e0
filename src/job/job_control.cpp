#include "partbackfill/job/job_control.hpp"

#include <fmt/format.h>

namespace partbackfill::job {

namespace {

[[noreturn]] void raise_changed(const Job &job) {
    pg::raise(pg::sqlcode::kObjectInUse,
              fmt::format("backfill job {} was changed by another session just now", job.id), "",
              "See its state in backfill_status, and try again.");
}

} // namespace

void JobControl::move(const Job &job, core::JobEvent event, const std::string &more,
                      const pg::Params &more_params) const {
    pg::Params params{job.id, core::name(job.state), core::name(core::next(job.state, event))};
    params.insert(params.end(), more_params.begin(), more_params.end());
    if (run("UPDATE {s}.backfill_job SET state = $3, tidied = false, partitions = NULL, pending = NULL, "
            "ready = NULL, done "
            "= NULL,"
            " failed = NULL, skipped = NULL, percent = NULL, rows = NULL, rows_per_second = NULL" +
                more + " WHERE job = $1 AND state = $2",
            params)
            .processed != 1)
        raise_changed(job);
}

void JobControl::cancel(const Job &job) const {
    move(job, core::JobEvent::cancel, ", rested_at = COALESCE(rested_at, clock_timestamp())");
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $2, claim = NULL, worker_pid = NULL, waiting_on = NULL, finished_at = clock_timestamp()
        WHERE job = $1 AND state = ANY ($3)
    )SQL",
        {job.id, core::name(core::PartitionState::canceled), core::sources(core::PartitionEvent::cancel)});
}

// Without their claims the workers change nothing any more. The attempt of a worker that died
// counts, since the attempt may have been the cause.
void JobControl::pause(const Job &job, const std::vector<int> &live) const {
    move(job, core::JobEvent::pause, ", rested_at = clock_timestamp()");
    std::vector<std::string> ordinals;
    ordinals.reserve(live.size());
    for (const int ordinal : live)
        ordinals.push_back(std::to_string(ordinal));
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $2, claim = NULL, worker_pid = NULL, waiting_on = NULL,
            attempts = attempts - CASE WHEN ordinal = ANY ($4::integer[]) THEN 1 ELSE 0 END
        WHERE job = $1 AND state = ANY ($3)
    )SQL",
        {job.id, core::name(core::PartitionState::pending), core::sources(core::PartitionEvent::pause),
         ordinals});
    run(R"SQL(
        UPDATE {s}.backfill_control SET claim = NULL, worker_pid = NULL, waiting_on = NULL WHERE job = $1 AND state = $2
    )SQL",
        {job.id, core::name(core::PartitionState::ready)});
}

void JobControl::resume(const Job &job) const {
    move(job, core::JobEvent::resume,
         ", idle_time = idle_time + (clock_timestamp() - rested_at), rested_at = NULL,"
         " workers_started_at = clock_timestamp()");
    run("UPDATE {s}.backfill_control SET not_before = NULL, swap_since = NULL"
        " WHERE job = $1 AND state = ANY ($2) AND (not_before IS NOT NULL OR swap_since IS NOT NULL)",
        {job.id, core::sources(core::PartitionEvent::claim)});
}

// Writes of the time in which the job was ready do not count as those of its builds.
void JobControl::publish(const Job &job) const {
    move(job, core::JobEvent::publish,
         ", publishing = true, error = NULL, idle_time = idle_time + (clock_timestamp() - rested_at), "
         "rested_at = NULL,"
         " workers_started_at = clock_timestamp()");
    run("UPDATE {s}.backfill_control SET not_before = NULL, swap_since = NULL, rebuilds = 0, orphaned = 0"
        " WHERE job = $1 AND state = $2"
        " AND (not_before IS NOT NULL OR swap_since IS NOT NULL OR rebuilds > 0 OR orphaned > 0)",
        {job.id, core::name(core::PartitionState::ready)});
}

void JobControl::revert(const Job &job, bool together) const {
    move(job, core::JobEvent::revert,
         ", reverts_from = $2, publishing = $4, error = CASE WHEN $2 = $5 THEN error END,"
         " idle_time = idle_time + COALESCE(clock_timestamp() - rested_at, '0'), rested_at = NULL, "
         "finished_at = NULL,"
         " workers_started_at = clock_timestamp()",
         {together, core::name(core::JobState::failed)});
}

void JobControl::end_revert(const Job &job, core::JobEvent event, const pg::ErrorFields *error) const {
    move(job, event,
         ", reverts_from = NULL, publishing = publish = 'together', rested_at = clock_timestamp(),"
         " error = COALESCE($4, error)",
         {error != nullptr ? std::optional(pg::error_text(*error)) : std::nullopt});
}

// Since the job failed its label may have become that of another one.
void JobControl::restart(const Job &job) const {
    try {
        move(
            job, core::JobEvent::retry,
            ", idle_time = idle_time + (clock_timestamp() - rested_at), rested_at = NULL, finished_at = NULL,"
            " workers_started_at = clock_timestamp(), error = NULL");
    } catch (const pg::Error &error) {
        if (error.code() != pg::sqlcode::kUniqueViolation)
            throw;
        pg::raise(pg::sqlcode::kObjectInUse,
                  fmt::format("another unfinished job has the label of backfill job {}", job.id),
                  fmt::format("The label is \"{}\".", job.label.value_or("")),
                  "Wait until that has ended, or cancel it; backfill_status lists your jobs.");
    }
}

// A session that ends or cancels the job meanwhile waits for the job's row, or this one raises.
int JobControl::retry(const Job &job) const {
    if (job.state == core::JobState::failed)
        restart(job);
    else if (run("UPDATE {s}.backfill_job SET error = NULL WHERE job = $1 AND state = $2",
                 {job.id, core::name(job.state)})
                 .processed != 1)
        raise_changed(job);
    // Partitions that were to be swapped together with what has failed begin anew, too.
    run("UPDATE {s}.backfill_control SET orphaned = 0, swap_since = NULL, not_before = NULL"
        " WHERE job = $1 AND state = $2 AND held"
        " AND (orphaned > 0 OR swap_since IS NOT NULL OR not_before IS NOT NULL)",
        {job.id, core::name(core::PartitionState::ready)});
    try {
        return static_cast<int>(
            run(R"SQL(
            UPDATE {s}.backfill_control
            SET state = CASE WHEN built THEN $3 ELSE $2 END, attempts = CASE WHEN built THEN LEAST(attempts, 1) ELSE 0 END, rebuilds = 0,
                orphaned = 0, audit_failed = false, suspect = false, swap_since = NULL,
                not_before = NULL, finished_at = NULL, sqlstate = NULL, error = NULL
            WHERE job = $1 AND state = ANY ($4)
        )SQL",
                {job.id, core::name(core::next(core::PartitionState::failed, core::PartitionEvent::requeue)),
                 core::name(core::next(core::PartitionState::failed, core::PartitionEvent::reswap)),
                 core::sources(core::PartitionEvent::requeue)})
                .processed);
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kUniqueViolation)
            pg::raise(pg::sqlcode::kObjectInUse,
                      fmt::format("a partition of backfill job {} is in another unfinished job", job.id),
                      "The other job has it in hand, or keeps what it has built for it.",
                      "Wait until that has ended, or cancel it; backfill_status lists your jobs.");
        throw;
    }
}

void JobControl::alter(std::int64_t job, const Alteration &alteration) const {
    pg::Params params{job};
    std::string list;
    for (const Assignment &assignment : assignments(alteration.values, alteration.given, params))
        list += (list.empty() ? "" : ", ") + assignment.column + " = " + assignment.value;
    if (!list.empty())
        run("UPDATE {s}.backfill_job SET " + list + " WHERE job = $1", params);
}

void JobControl::note_start(const Job &job) const {
    run("UPDATE {s}.backfill_job SET workers_started_at = clock_timestamp() WHERE job = $1", {job.id});
}

void JobControl::give_up(const Job &job, const pg::ErrorFields &error) const {
    move(job, core::JobEvent::fail, ", rested_at = clock_timestamp(), error = $4", {pg::error_text(error)});
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $2, claim = NULL, worker_pid = NULL, waiting_on = NULL, sqlstate = $4, error = $5,
            finished_at = clock_timestamp()
        WHERE job = $1 AND state = ANY ($3)
    )SQL",
        {job.id, core::name(core::PartitionState::failed), core::sources(core::PartitionEvent::fail),
         pg::sqlstate_text(error.code), pg::error_text(error)});
}

} // namespace partbackfill::job
