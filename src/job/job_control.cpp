// A job's state, settings and partitions, changed by who may control it.
#include "partbackfill/job/control_tables.hpp"

#include <fmt/format.h>

namespace partbackfill::job {

namespace {

std::string in_text(const pg::ErrorFields &error) {
    std::string text = error.message;
    if (!error.detail.empty())
        text += "\nDetail: " + error.detail;
    if (!error.hint.empty())
        text += "\nHint: " + error.hint;
    return text;
}

[[noreturn]] void raise_changed(const Job &job) {
    pg::raise(pg::sqlcode::kObjectInUse,
              fmt::format("backfill job {} was changed by somebody else just now", job.id), "",
              "See its state in backfill_status, and try again.");
}

std::optional<std::string> in_text(const auto &number) {
    return number ? std::optional(fmt::format("{}", *number)) : std::nullopt;
}

} // namespace

void ControlTables::move_job(const Job &job, core::JobEvent event, const std::string &more,
                             const pg::Params &more_params) {
    pg::Params params{job.id, core::name(job.state), core::name(core::next(job.state, event))};
    params.insert(params.end(), more_params.begin(), more_params.end());
    if (run("UPDATE {s}.backfill_job SET state = $3, tidied = false" + more +
                " WHERE job = $1 AND state = $2",
            params)
            .processed != 1)
        raise_changed(job);
}

void ControlTables::cancel_job(const Job &job) {
    move_job(job, core::JobEvent::cancel, ", rested_at = COALESCE(rested_at, clock_timestamp())");
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $2, claim = NULL, worker_pid = NULL, waiting_on = NULL, finished_at = clock_timestamp()
        WHERE job = $1 AND state = ANY ($3)
    )SQL",
        {job.id, core::name(core::PartitionState::canceled), core::sources(core::PartitionEvent::cancel)});
}

// Without their claims the workers change nothing any more. An attempt whose worker
// died was one: it may have died of it.
void ControlTables::pause_job(const Job &job, const std::vector<int> &live) {
    move_job(job, core::JobEvent::pause, ", rested_at = clock_timestamp()");
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

void ControlTables::resume_job(const Job &job) {
    move_job(job, core::JobEvent::resume,
             ", idle_time = idle_time + (clock_timestamp() - rested_at), rested_at = NULL,"
             " workers_started_at = clock_timestamp()");
    run("UPDATE {s}.backfill_control SET not_before = NULL, swap_since = NULL WHERE job = $1 AND state = ANY "
        "($2)",
        {job.id, core::sources(core::PartitionEvent::claim)});
}

// Whoever ends or cancels the job meanwhile waits for its row, or we come too late.
int ControlTables::retry_job(const Job &job) {
    if (job.state == core::JobState::failed)
        move_job(
            job, core::JobEvent::retry,
            ", idle_time = idle_time + (clock_timestamp() - rested_at), rested_at = NULL, finished_at = NULL,"
            " workers_started_at = clock_timestamp(), error = NULL");
    else if (run("UPDATE {s}.backfill_job SET error = NULL WHERE job = $1 AND state = $2",
                 {job.id, core::name(job.state)})
                 .processed != 1)
        raise_changed(job);
    try {
        return static_cast<int>(
            run(R"SQL(
            UPDATE {s}.backfill_control
            SET state = CASE WHEN built THEN $3 ELSE $2 END, attempts = CASE WHEN built THEN LEAST(attempts, 1) ELSE 0 END, rebuilds = 0,
                orphaned = 0, suspect = false, swap_since = NULL,
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

void ControlTables::note_start(const Job &job) {
    run("UPDATE {s}.backfill_job SET workers_started_at = clock_timestamp() WHERE job = $1", {job.id});
}

void ControlTables::alter_job(std::int64_t job, const Alteration &alteration) {
    run(R"SQL(
        UPDATE {s}.backfill_job
        SET workers = COALESCE($2::integer, workers),
            delay = COALESCE($3::interval, delay),
            nice_ratio = COALESCE($4::float8, nice_ratio),
            max_wal_rate = CASE WHEN $5 IS NULL THEN max_wal_rate ELSE NULLIF($5, '') END,
            max_replica_lag = CASE WHEN $6 IS NULL THEN max_replica_lag ELSE NULLIF($6, '')::interval END,
            throttle_query = CASE WHEN $7 IS NULL THEN throttle_query ELSE NULLIF($7, '') END,
            min_free_disk = CASE WHEN $8 IS NULL THEN min_free_disk ELSE NULLIF($8, '') END,
            lock_timeout = COALESCE($9::interval, lock_timeout),
            swap_patience = COALESCE($10::interval, swap_patience),
            allow_shrink = COALESCE($11::boolean, allow_shrink)
        WHERE job = $1
    )SQL",
        {job, in_text(alteration.workers), alteration.delay, in_text(alteration.nice_ratio),
         alteration.max_wal_rate, alteration.max_replica_lag, alteration.throttle_query,
         alteration.min_free_disk, alteration.lock_timeout, alteration.swap_patience,
         in_text(alteration.allow_shrink)});
}

void ControlTables::give_up_job(const Job &job, const pg::ErrorFields &error) {
    move_job(job, core::JobEvent::fail, ", rested_at = clock_timestamp(), error = $4", {in_text(error)});
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $2, claim = NULL, worker_pid = NULL, waiting_on = NULL, sqlstate = $4, error = $5,
            finished_at = clock_timestamp()
        WHERE job = $1 AND state = ANY ($3)
    )SQL",
        {job.id, core::name(core::PartitionState::failed), core::sources(core::PartitionEvent::fail),
         pg::sqlstate_text(error.code), in_text(error)});
}

} // namespace partbackfill::job
