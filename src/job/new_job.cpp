#include "partbackfill/job/new_job.hpp"

#include "partbackfill/job/option_table.hpp"

namespace partbackfill::job {

std::int64_t NewJobRows::next_number() const {
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

std::optional<NewJobRows::Claimant> NewJobRows::claimant_of(Oid partition) const {
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.state = 'failed' AS failed, j.state AS job_state
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job AND j.installation = {s}.backfill_installation()
        WHERE c.partition_oid = $1
          AND (c.state IN ('pending', 'running', 'ready') OR (c.state = 'failed' AND c.built))
    )SQL",
                                  {partition});
    if (result.empty())
        return std::nullopt;
    const pg::Row &row = result.rows.front();
    return Claimant{row.integer("job"), row.boolean("failed"), core::job_state(row.text("job_state"))};
}

std::optional<NewJobRows::Labelled> NewJobRows::unfinished_with_label(Oid owner,
                                                                      const std::string &label) const {
    const pg::Result result = run(R"SQL(
        SELECT job, target_oid::bigint AS target, target AS target_name, source, state
        FROM {s}.backfill_job
        WHERE installation = {s}.backfill_installation() AND owner = $1 AND label = $2 AND state IN ('running', 'paused', 'ready') AND reverts_from IS NULL
    )SQL",
                                  {owner, label}, pg::Read::active_snapshot);
    if (result.empty())
        return std::nullopt;
    const pg::Row &row = result.rows.front();
    return Labelled{row.integer("job"), row.oid("target"), row.text("target_name"), row.text("source"),
                    core::job_state(row.text("state"))};
}

void NewJobRows::insert(const NewJob &job) const {
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (const auto &[name, value] : job.settings) {
        names.push_back(name);
        values.push_back(value);
    }
    pg::Params params{job.id,          job.target,         job.target_name,
                      job.source,      job.source_oid,     job.reads_target,
                      job.key_type,    job.key_columns,    job.owner,
                      job.range_start, job.range_end,      names,
                      values,          job.options.audits, job.options.publish == Publish::together,
                      job.shard};
    std::vector<const Option *> options;
    for (const Option &option : option_table())
        options.push_back(&option);
    std::string option_columns;
    std::string option_values;
    for (const Assignment &assignment : assignments(job.options, options, params)) {
        option_columns += ", " + assignment.column;
        option_values += ", " + assignment.value;
    }
    run(R"SQL(
        INSERT INTO {s}.backfill_job (installation, job, target_oid, target, source, source_oid, reads_target, key_type,
            key_columns, owner, range_start, range_end, setting_names, setting_values, audits, publishing, shard)SQL" +
            option_columns + R"SQL()
        VALUES ({s}.backfill_installation(), $1, $2, $3, $4, NULLIF($5, 0::oid), $6, NULLIF($7, 0::oid),
            $8, $9, $10, $11, $12, $13, $14, $15, NULLIF($16, 0))SQL" +
            option_values + ")",
        params);
}

void NewJobRows::insert_partition(std::int64_t job, const NewPartition &partition) const {
    run(R"SQL(
        INSERT INTO {s}.backfill_control (job, ordinal, partition_oid, partition, range_start, range_end,
            partition_bound, rows_estimate)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    )SQL",
        {job, partition.ordinal, partition.live, partition.name, partition.range_start, partition.range_end,
         partition.bound, partition.rows_estimate});
}

} // namespace partbackfill::job
