#include "partbackfill/job/job_end.hpp"

namespace partbackfill::job {

void JobEnd::end(const Job &job, core::JobEvent event) const {
    run(R"SQL(
        UPDATE {s}.backfill_job
        SET state = $2, tidied = true, rested_at = clock_timestamp(), finished_at = clock_timestamp(),
            -- Settings may be secrets, and nothing runs under them any more.
            setting_names = CASE WHEN $2 = $4 THEN '{{}}' ELSE setting_names END,
            setting_values = CASE WHEN $2 = $4 THEN '{{}}' ELSE setting_values END,
            -- After a retry a person decides again.
            publishing = publish = 'together', reverts_from = NULL
        WHERE job = $1 AND state = $3
    )SQL",
        {job.id, core::name(core::next(job.state, event)), core::name(job.state),
         core::name(core::JobState::done)});
    record_figures(job.id);
}

void JobEnd::rest_ready(const Job &job) const {
    run("UPDATE {s}.backfill_job SET state = $2, tidied = true, rested_at = clock_timestamp() WHERE job = $1 "
        "AND state = $3",
        {job.id, core::name(core::next(job.state, core::JobEvent::built)), core::name(job.state)});
}

void JobEnd::mark_tidied(const Job &job) const {
    run(R"SQL(
        UPDATE {s}.backfill_job
        SET tidied = true,
            -- What backfill_purge() leaves to be tidied up had ended before.
            finished_at = CASE WHEN state = $3 THEN NULL WHEN partitions IS NULL THEN clock_timestamp() ELSE finished_at END,
            setting_names = CASE WHEN state = $4 THEN '{{}}' ELSE setting_names END,
            setting_values = CASE WHEN state = $4 THEN '{{}}' ELSE setting_values END
        WHERE job = $1 AND state = $2 AND NOT tidied
    )SQL",
        {job.id, core::name(job.state), core::name(core::JobState::paused),
         core::name(core::JobState::canceled)});
    if (job.state != core::JobState::paused)
        record_figures(job.id);
}

// backfill_status shows them from then on. JobControl::move() clears them.
void JobEnd::record_figures(std::int64_t job) const {
    run(R"SQL(
        UPDATE {s}.backfill_job AS j
        SET (partitions, pending, ready, done, failed, skipped, percent, rows, rows_per_second)
            = (SELECT s.partitions, s.pending, s.ready, s.done, s.failed, s.skipped, s.percent, s.rows, s.rows_per_second
               FROM {s}.backfill_status AS s WHERE s.job = j.job)
        WHERE j.job = $1 AND j.partitions IS NULL
    )SQL",
        {job});
}

void JobEnd::forget(std::int64_t job) const {
    run("DELETE FROM {s}.backfill_write WHERE job = $1", {job});
    run("DELETE FROM {s}.backfill_control WHERE job = $1", {job});
    run("DELETE FROM {s}.backfill_job WHERE job = $1", {job});
}

void JobEnd::mark_untidied(std::int64_t job) const {
    run("UPDATE {s}.backfill_job SET tidied = false WHERE job = $1", {job});
}

void JobEnd::set_error(std::int64_t job, const std::string &error) const {
    run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1", {job, error});
}

void JobEnd::clear_tidy_error(std::int64_t job) const {
    run(R"SQL(
        UPDATE {s}.backfill_job AS j
        SET error = (SELECT c.partition || ': ' || c.error FROM {s}.backfill_control AS c
                     WHERE c.job = j.job AND c.state = 'failed' ORDER BY c.finished_at DESC LIMIT 1)
        WHERE j.job = $1 AND starts_with(j.error, $2)
          AND NOT EXISTS (SELECT FROM pg_namespace
                          WHERE nspname IN ('backfill_' || j.job || '_new', 'backfill_' || j.job || '_old'))
    )SQL",
        {job, kCouldNotTidyUp});
}

} // namespace partbackfill::job
