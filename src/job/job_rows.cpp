#include "partbackfill/job/control_tables.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::job {

namespace {

// A month is as good as for ever, and what clocks and settings count in does not
// overflow.
constexpr Milliseconds kLongest = std::chrono::hours(24 * 24);

Milliseconds milliseconds(const pg::Row &row, size_t column) {
    return std::min(Milliseconds(row.integer(column)), kLongest);
}

OnWrite on_write(const std::string &name) {
    if (name == "block")
        return OnWrite::block;
    return name == "ignore" ? OnWrite::ignore : OnWrite::rebuild;
}

} // namespace

// Statements name the control tables as {s}.backfill_...: the extension's schema.
pg::Result ControlTables::run(const std::string &sql, const pg::Params &params, pg::Read read) {
    return pg::query(fmt::format(fmt::runtime(sql), fmt::arg("s", schema())), params, read);
}

std::int64_t ControlTables::next_job_number() {
    for (;;) {
        const pg::Row row = run(R"SQL(
            SELECT n.job, EXISTS (SELECT FROM pg_namespace
                                  WHERE nspname IN ('backfill_' || n.job || '_new', 'backfill_' || n.job || '_old'))
                          OR EXISTS (SELECT FROM {s}.backfill_job AS j WHERE j.job = n.job)
            FROM (SELECT nextval(pg_get_serial_sequence($1, 'job')) AS job OFFSET 0) AS n
        )SQL",
                                {schema() + ".backfill_job"})
                                .rows.front();
        if (!row.boolean(1))
            return row.integer(0);
    }
}

void ControlTables::insert_job(const NewJob &job) {
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (const auto &[name, value] : job.settings) {
        names.push_back(name);
        values.push_back(value);
    }
    run(R"SQL(
        INSERT INTO {s}.backfill_job (job, target_oid, target, source, source_oid, reads_target, key_type, key_columns,
            owner, range_start, range_end, newest_first, workers, delay, max_attempts, on_error, swap, keep_old,
            lock_timeout, swap_patience, setting_names, setting_values, on_write, nice_ratio, max_wal_rate,
            max_replica_lag, throttle_query, min_free_disk, skip_triggers, allow_shrink, installation)
        VALUES ($1, $2, $3, $4, NULLIF($5, 0::oid), $6, NULLIF($7, 0::oid), $8, $9, $10, $11, $12, $13, $14::interval,
            $15, $16, $17, $18, $19::interval, $20::interval, $21, $22, $23, $24, $25, $26::interval, $27,
            $28, $29, $30, {s}.backfill_installation())
    )SQL",
        {job.id,
         job.target,
         job.target_name,
         job.source,
         job.source_oid,
         job.reads_target,
         job.key_type,
         job.key_columns,
         job.owner,
         job.range_start,
         job.range_end,
         job.options.newest_first,
         job.options.workers,
         job.options.delay,
         job.options.max_attempts,
         job.options.on_error,
         job.options.swap,
         job.options.keep_old,
         job.options.lock_timeout,
         job.options.swap_patience,
         names,
         values,
         job.options.on_write,
         job.options.nice_ratio,
         job.options.max_wal_rate,
         job.options.max_replica_lag,
         job.options.throttle_query,
         job.options.min_free_disk,
         job.options.skip_triggers,
         job.options.allow_shrink});
}

void ControlTables::insert_partition(std::int64_t job, const NewPartition &partition) {
    run(R"SQL(
        INSERT INTO {s}.backfill_control (job, ordinal, partition_oid, partition, range_start, range_end,
            partition_bound, rows_estimate)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    )SQL",
        {job, partition.ordinal, partition.live, partition.name, partition.range_start, partition.range_end,
         partition.bound, partition.rows_estimate});
}

std::optional<Job> ControlTables::find_job(std::int64_t id) {
    return find(id, pg::Read::newest);
}
std::optional<Job> ControlTables::find_job_now(std::int64_t id) {
    return find(id, pg::Read::active_snapshot);
}

std::optional<Job> ControlTables::find(std::int64_t id, pg::Read read) {
    const pg::Result result = run(R"SQL(
        SELECT job, target_oid::bigint, COALESCE(source_oid, 0)::bigint, owner::bigint, state,
               tidied, workers, (date_part('epoch', delay) * 1000)::bigint, max_attempts,
               on_error = 'stop', keep_old, (date_part('epoch', lock_timeout) * 1000)::bigint,
               (date_part('epoch', swap_patience) * 1000)::bigint, COALESCE(key_type, 0)::bigint, swap,
               on_write, allow_shrink, skip_triggers
        FROM {s}.backfill_job
        WHERE job = $1 AND installation = {s}.backfill_installation()
    )SQL",
                                  {id}, read);
    if (result.empty())
        return std::nullopt;
    const pg::Row &row = result.rows.front();
    Job job;
    job.id = row.integer(0);
    job.target = row.oid(1);
    job.source_oid = row.oid(2);
    job.owner = row.oid(3);
    job.state = core::job_state(row.text(4));
    job.tidied = row.boolean(5);
    job.workers = static_cast<int>(row.integer(6));
    job.delay = milliseconds(row, 7);
    job.max_attempts = static_cast<int>(row.integer(8));
    job.stop_on_error = row.boolean(9);
    job.keep_old = row.boolean(10);
    job.lock_timeout = milliseconds(row, 11);
    job.swap_patience = milliseconds(row, 12);
    job.key_type = row.oid(13);
    job.swap = row.text(14);
    job.on_write = on_write(row.text(15));
    job.allow_shrink = row.boolean(16);
    job.skip_triggers = row.boolean(17);
    for (const pg::Row &column :
         run("SELECT unnest(key_columns) FROM {s}.backfill_job WHERE job = $1", {id}, read).rows)
        job.key_columns.insert(column.text(0));
    return job;
}

std::string ControlTables::source(std::int64_t job) {
    return run("SELECT source FROM {s}.backfill_job WHERE job = $1", {job}).rows.at(0).text(0);
}

bool ControlTables::is_of_another_installation(std::int64_t job) {
    return !run("SELECT FROM {s}.backfill_job WHERE job = $1 AND installation <> {s}.backfill_installation()",
                {job})
                .empty();
}

// Looked at whenever rows are to be written: it costs a scan of an index. A lock on the
// rows of pg_class is taken only where the mark is missing.
void ControlTables::keep_undecoded() {
    run(R"SQL(
        UPDATE pg_class AS c SET relrewrite = c.oid
        FROM pg_extension AS e
        WHERE e.extname = 'partbackfill' AND c.relnamespace = e.extnamespace
          AND c.relname IN ('backfill_job', 'backfill_control', 'backfill_write') AND c.relrewrite <> c.oid
    )SQL");
}

bool ControlTables::is_of_this_transaction(std::int64_t job) {
    const pg::Result result = run("SELECT xmin::text::bigint FROM {s}.backfill_job WHERE job = $1", {job});
    return !result.empty() &&
           pg::is_of_current_transaction(static_cast<std::uint32_t>(result.rows.front().integer(0)));
}

std::vector<pg::Setting> ControlTables::settings(std::int64_t job) {
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

pg::KeyedTable ControlTables::job_table(std::int64_t job) {
    const pg::Row row = run(R"SQL(
        SELECT j.tableoid::bigint, i.indexrelid::bigint
        FROM {s}.backfill_job AS j
        JOIN pg_index AS i ON i.indrelid = j.tableoid AND i.indisprimary
        WHERE j.job = $1
    )SQL",
                            {job})
                            .rows.at(0);
    return {row.oid(0), row.oid(1), pace_columns()};
}

Census ControlTables::census(std::int64_t job) {
    // After a failure a job with on_error => 'stop' begins no further partition.
    const pg::Row row = run(R"SQL(
        SELECT count(*) FILTER (WHERE c.state IN ('running', 'ready')
                                   OR (c.state = 'pending' AND NOT (f.failed AND j.on_error = 'stop'))),
               count(*) FILTER (WHERE c.state = 'failed')
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job
        CROSS JOIN (SELECT EXISTS (SELECT FROM {s}.backfill_control
                                   WHERE job = $1 AND state = 'failed') AS failed) AS f
        WHERE c.job = $1
    )SQL",
                            {job})
                            .rows.front();
    return {static_cast<int>(row.integer(0)), static_cast<int>(row.integer(1))};
}

// Nothing when somebody has changed the state of the job meanwhile.
void ControlTables::end_job(const Job &job, core::JobEvent event) {
    run(R"SQL(
        UPDATE {s}.backfill_job
        SET state = $2, tidied = true, rested_at = clock_timestamp(), finished_at = clock_timestamp(),
            -- They may be secrets, and nothing runs under them any more.
            setting_names = CASE WHEN $2 = $4 THEN '{{}}' ELSE setting_names END,
            setting_values = CASE WHEN $2 = $4 THEN '{{}}' ELSE setting_values END
        WHERE job = $1 AND state = $3
    )SQL",
        {job.id, core::name(core::next(job.state, event)), core::name(job.state),
         core::name(core::JobState::done)});
}

void ControlTables::mark_tidied(const Job &job) {
    run(R"SQL(
        UPDATE {s}.backfill_job
        SET tidied = true, finished_at = CASE WHEN state <> $3 THEN clock_timestamp() END,
            setting_names = CASE WHEN state = $4 THEN '{{}}' ELSE setting_names END,
            setting_values = CASE WHEN state = $4 THEN '{{}}' ELSE setting_values END
        WHERE job = $1 AND state = $2 AND NOT tidied
    )SQL",
        {job.id, core::name(job.state), core::name(core::JobState::paused),
         core::name(core::JobState::canceled)});
}

std::vector<Job> ControlTables::unfinished_jobs() {
    std::vector<Job> jobs;
    for (const pg::Row &row : run(R"SQL(
             SELECT job FROM {s}.backfill_job
             WHERE (NOT tidied OR state = $1) AND installation = {s}.backfill_installation()
             ORDER BY job
         )SQL",
                                  {core::name(core::JobState::paused)})
                                  .rows)
        if (auto job = find_job(row.integer(0)))
            jobs.push_back(*std::move(job));
    return jobs;
}

std::optional<Job> ControlTables::job_in_the_way() {
    const pg::Result result = run(R"SQL(
        SELECT j.job
        FROM {s}.backfill_job AS j
        WHERE (NOT j.tidied OR j.state = $1
               OR EXISTS (SELECT FROM {s}.backfill_control AS c WHERE c.job = j.job AND c.built))
          AND j.installation = {s}.backfill_installation()
        ORDER BY j.job
        LIMIT 1
    )SQL",
                                  {core::name(core::JobState::paused)});
    return result.empty() ? std::nullopt : find_job(result.rows.front().integer(0));
}

std::optional<ControlTables::Claimant> ControlTables::claimant_of(Oid partition) {
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.state = 'failed', j.state = 'paused'
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job AND j.installation = {s}.backfill_installation()
        WHERE c.partition_oid = $1
          AND (c.state IN ('pending', 'running', 'ready') OR (c.state = 'failed' AND c.built))
    )SQL",
                                  {partition});
    if (result.empty())
        return std::nullopt;
    return Claimant{result.rows.front().integer(0), result.rows.front().boolean(1),
                    result.rows.front().boolean(2)};
}

std::vector<Oid> ControlTables::old_tables(std::int64_t job) {
    std::vector<Oid> oids;
    for (const pg::Row &row :
         run("SELECT old_oid::bigint FROM {s}.backfill_control WHERE job = $1 AND old_oid IS NOT NULL", {job})
             .rows)
        oids.push_back(row.oid(0));
    return oids;
}

void ControlTables::lock_job(std::int64_t job) {
    run("SELECT FROM {s}.backfill_job WHERE job = $1 FOR NO KEY UPDATE", {job});
}

void ControlTables::set_error(std::int64_t job, const std::string &error) {
    run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1", {job, error});
}

void ControlTables::clear_tidy_error(std::int64_t job) {
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

void ControlTables::forget_old(std::int64_t job, Oid old_table) {
    run("UPDATE {s}.backfill_control SET old_oid = NULL WHERE job = $1 AND old_oid = $2", {job, old_table});
}

} // namespace partbackfill::job
