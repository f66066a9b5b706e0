#include "partbackfill/job/job_table.hpp"

#include "partbackfill/job/option_table.hpp"
#include "partbackfill/job/partition_row.hpp"
#include "partbackfill/job/throttle_settings.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::job {

namespace {

// A revert brings back what there was, whatever the job's options say of new rows. What is written meanwhile
// is read from the target itself.
void run_as_revert(Job &job, core::JobState before, bool together) {
    job.reverts_from = before;
    job.source_oid = job.target;
    job.publish = together ? Publish::together : Publish::each;
    job.delay = Milliseconds(0);
    job.skip_triggers = true;
    job.allow_shrink = true;
    job.stop_on_error = false;
    if (job.on_write == OnWrite::block)
        job.on_write = OnWrite::rebuild;
}

} // namespace

std::string JobTable::source(std::int64_t job) const {
    return run("SELECT source FROM {s}.backfill_job WHERE job = $1", {job}).rows.at(0).text(0);
}

std::vector<std::string> JobTable::audits(std::int64_t job) const {
    return run(R"SQL(
        SELECT a.text
        FROM {s}.backfill_job AS j
        CROSS JOIN LATERAL unnest(j.audits) WITH ORDINALITY AS a (text, place)
        WHERE j.job = $1
        ORDER BY a.place
    )SQL",
               {job})
        .texts();
}

std::vector<pg::Setting> JobTable::settings(std::int64_t job) const {
    const pg::Result result = run(R"SQL(
        SELECT s.name, s.value
        FROM {s}.backfill_job AS j
        CROSS JOIN LATERAL unnest(j.setting_names, j.setting_values) AS s(name, value)
        WHERE j.job = $1
    )SQL",
                                  {job});
    std::vector<pg::Setting> settings;
    for (const pg::Row &row : result.rows)
        settings.emplace_back(row.text(0), row.text(1));
    return settings;
}

pg::KeyedTable JobTable::throttle_table(std::int64_t job) const {
    const pg::Row row = run(R"SQL(
        SELECT j.tableoid::bigint AS table_oid, i.indexrelid::bigint AS index_oid
        FROM {s}.backfill_job AS j
        JOIN pg_index AS i ON i.indrelid = j.tableoid AND i.indisprimary
        WHERE j.job = $1
    )SQL",
                            {job})
                            .rows.at(0);
    return job::throttle_table(row.oid("table_oid"), row.oid("index_oid"));
}

std::optional<Job> JobTable::find(std::int64_t id) const {
    return find(id, pg::Read::newest);
}

std::optional<Job> JobTable::find_now(std::int64_t id) const {
    return find(id, pg::Read::active_snapshot);
}

std::optional<Job> JobTable::find(std::int64_t id, pg::Read read) const {
    const pg::Result result = run(R"SQL(
        SELECT job, target_oid::bigint, COALESCE(source_oid, 0)::bigint AS source_oid,
               COALESCE(key_type, 0)::bigint AS key_type, owner::bigint, COALESCE(shard, 0) AS shard, state, tidied, reverts_from, publishing, )SQL" +
                                      step_option_list() + R"SQL(
        FROM {s}.backfill_job
        WHERE job = $1 AND installation = {s}.backfill_installation()
    )SQL",
                                  {id}, read);
    if (result.empty())
        return std::nullopt;
    const pg::Row &row = result.rows.front();
    Job job;
    static_cast<StepOptions &>(job) = step_options(row);
    job.id = row.integer("job");
    job.target = row.oid("target_oid");
    job.source_oid = row.oid("source_oid");
    job.key_type = row.oid("key_type");
    job.owner = row.oid("owner");
    job.shard = row.integer("shard");
    job.state = core::job_state(row.text("state"));
    job.tidied = row.boolean("tidied");
    if (!row.is_null("reverts_from"))
        run_as_revert(job, core::job_state(row.text("reverts_from")), row.boolean("publishing"));
    for (const pg::Row &column :
         run("SELECT unnest(key_columns) FROM {s}.backfill_job WHERE job = $1", {id}, read).rows)
        job.key_columns.insert(column.text(0));
    return job;
}

bool JobTable::is_of_another_installation(std::int64_t job) const {
    return !run("SELECT FROM {s}.backfill_job WHERE job = $1 AND installation <> {s}.backfill_installation()",
                {job})
                .empty();
}

bool JobTable::is_of_this_transaction(std::int64_t job) const {
    const pg::Result result = run("SELECT xmin::text::bigint FROM {s}.backfill_job WHERE job = $1", {job});
    return !result.empty() &&
           pg::is_of_current_transaction(static_cast<std::uint32_t>(result.rows.front().integer(0)));
}

bool JobTable::keep_running(std::int64_t job) const {
    return !run("SELECT FROM {s}.backfill_job WHERE job = $1 AND state = $2 FOR SHARE SKIP LOCKED",
                {job, core::name(core::JobState::running)})
                .empty();
}

void JobTable::lock(std::int64_t job) const {
    run("SELECT FROM {s}.backfill_job WHERE job = $1 FOR NO KEY UPDATE", {job});
}

int JobTable::claimable_partitions(std::int64_t job, int limit) const {
    // After a failure a job with on_error => 'stop' begins no other partition.
    return static_cast<int>(run(R"SQL(
        SELECT count(*)
        FROM {s}.backfill_job AS j
        CROSS JOIN LATERAL (SELECT )SQL" +
                                    std::string(kSwappedEach) +
                                    R"SQL( AS each) AS kind
        CROSS JOIN LATERAL (
            (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'running' LIMIT $2)
            UNION ALL
            -- Those that are swapped together wait for the last of them, and none must have failed.
            (SELECT FROM {s}.backfill_control
             WHERE job = $1 AND state = 'ready'
               AND (kind.each
                    OR j.publishing AND (j.reverts_from IS NOT NULL
                                         OR NOT EXISTS (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'failed')))
             LIMIT CASE WHEN kind.each THEN $2 ELSE 1 END)
            UNION ALL
            (SELECT FROM {s}.backfill_control
             WHERE job = $1 AND state = 'pending'
               AND NOT (j.on_error = 'stop' AND j.reverts_from IS NULL AND EXISTS (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'failed'))
             LIMIT $2)
            UNION ALL
            -- One that its worker has left before it was held; looked for last, since all that are held are passed.
            (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'ready' AND NOT held AND NOT kind.each LIMIT 1)
            LIMIT $2
        ) AS claimable
        WHERE j.job = $1
    )SQL",
                                {job, limit})
                                .rows.front()
                                .integer(0));
}

bool JobTable::has_partition(std::int64_t job, core::PartitionState state) const {
    return !run("SELECT FROM {s}.backfill_control WHERE job = $1 AND state = $2 LIMIT 1",
                {job, core::name(state)})
                .empty();
}

std::vector<Job> JobTable::unfinished() const {
    std::vector<Job> jobs;
    for (const pg::Row &row : run(R"SQL(
             SELECT job FROM {s}.backfill_job
             WHERE (NOT tidied OR state = 'paused') AND installation = {s}.backfill_installation()
             ORDER BY job
         )SQL")
                                  .rows)
        if (auto job = find(row.integer(0)))
            jobs.push_back(*std::move(job));
    return jobs;
}

std::optional<Job> JobTable::first_in_the_way() const {
    const pg::Result result = run(R"SQL(
        SELECT j.job
        FROM {s}.backfill_job AS j
        WHERE (NOT j.tidied OR j.state = $1
               OR EXISTS (SELECT FROM {s}.backfill_control AS c WHERE c.job = j.job AND (c.built OR (c.audit_failed AND c.shadow_oid IS NOT NULL))))
          AND j.installation = {s}.backfill_installation()
        ORDER BY j.job
        LIMIT 1
    )SQL",
                                  {core::name(core::JobState::paused)});
    return result.empty() ? std::nullopt : find(result.rows.front().integer(0));
}

std::optional<std::int64_t> JobTable::first_that_keeps_old() const {
    const pg::Result result = run(R"SQL(
        SELECT c.job
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job AND j.installation = {s}.backfill_installation()
        JOIN pg_class AS o ON o.oid = c.old_oid
        JOIN pg_namespace AS n ON n.oid = o.relnamespace AND n.nspname = 'backfill_' || c.job || '_old'
        WHERE c.old_oid IS NOT NULL
        ORDER BY c.job
        LIMIT 1
    )SQL");
    return result.empty() ? std::nullopt : std::optional(result.rows.front().integer(0));
}

} // namespace partbackfill::job
