#include "partbackfill/job/control_tables.hpp"

#include <algorithm>
#include <random>

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

Partition partition_of(const pg::Row &row) {
    Partition partition;
    partition.job = row.integer(0);
    partition.ordinal = static_cast<int>(row.integer(1));
    partition.live = row.oid(2);
    partition.name = row.text(3);
    partition.bound = row.text(4);
    partition.range_start = row.field(5);
    partition.range_end = row.field(6);
    partition.state = core::partition_state(row.text(7));
    partition.attempts = static_cast<int>(row.integer(8));
    partition.swap_attempts = static_cast<int>(row.integer(9));
    partition.constraint = row.field(10);
    partition.shadow = row.is_null(11) ? kNoOid : row.oid(11);
    partition.rows = row.integer(12);
    partition.fingerprint = row.text(13);
    partition.proof = row.oid(14);
    return partition;
}

std::int64_t new_token() {
    std::random_device device;
    return static_cast<std::int64_t>((static_cast<std::uint64_t>(device()) << 31) ^ device());
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
            FROM (SELECT nextval(pg_get_serial_sequence('{s}.backfill_job', 'job')) AS job OFFSET 0) AS n
        )SQL")
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
            owner, range_start, range_end, newest_first, workers, delay, max_attempts, on_error, keep_old,
            lock_timeout, swap_patience, setting_names, setting_values)
        VALUES ($1, $2, $3, $4, NULLIF($5, 0::oid), $6, NULLIF($7, 0::oid), $8, $9, $10, $11, $12, $13, $14::interval,
            $15, $16, $17, $18::interval, $19::interval, $20, $21)
    )SQL",
        {job.id, job.target, job.target_name, job.source, job.source_oid, job.reads_target, job.key_type,
         job.key_columns, job.owner, job.range_start, job.range_end, job.options.newest_first, job.options.workers,
         job.options.delay, job.options.max_attempts, job.options.on_error, job.options.keep_old,
         job.options.lock_timeout, job.options.swap_patience, names, values});
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

std::optional<Job> ControlTables::find_job(std::int64_t id) { return find(id, pg::Read::newest); }
std::optional<Job> ControlTables::find_job_now(std::int64_t id) { return find(id, pg::Read::active_snapshot); }

std::optional<Job> ControlTables::find(std::int64_t id, pg::Read read) {
    const pg::Result result = run(R"SQL(
        SELECT job, target_oid::bigint, source, COALESCE(source_oid, 0)::bigint, owner::bigint, state,
               finished_at IS NOT NULL, workers, (date_part('epoch', delay) * 1000)::bigint, max_attempts,
               on_error = 'stop', keep_old, (date_part('epoch', lock_timeout) * 1000)::bigint,
               (date_part('epoch', swap_patience) * 1000)::bigint, COALESCE(key_type, 0)::bigint
        FROM {s}.backfill_job
        WHERE job = $1
    )SQL",
                                  {id}, read);
    if (result.empty())
        return std::nullopt;
    const pg::Row &row = result.rows.front();
    Job job;
    job.id = row.integer(0);
    job.target = row.oid(1);
    job.source = row.text(2);
    job.source_oid = row.oid(3);
    job.owner = row.oid(4);
    job.state = core::job_state(row.text(5));
    job.finished = row.boolean(6);
    job.workers = static_cast<int>(row.integer(7));
    job.delay = milliseconds(row, 8);
    job.max_attempts = static_cast<int>(row.integer(9));
    job.stop_on_error = row.boolean(10);
    job.keep_old = row.boolean(11);
    job.lock_timeout = milliseconds(row, 12);
    job.swap_patience = milliseconds(row, 13);
    job.key_type = row.oid(14);
    for (const pg::Row &column : run("SELECT unnest(key_columns) FROM {s}.backfill_job WHERE job = $1", {id}, read).rows)
        job.key_columns.insert(column.text(0));
    return job;
}

bool ControlTables::is_of_this_transaction(std::int64_t job) {
    const pg::Result result = run("SELECT xmin::text::bigint FROM {s}.backfill_job WHERE job = $1", {job});
    return !result.empty() && pg::is_of_current_transaction(static_cast<std::uint32_t>(result.rows.front().integer(0)));
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

void ControlTables::end_job(const Job &job, core::JobEvent event) {
    run("UPDATE {s}.backfill_job SET state = $2, finished_at = clock_timestamp() WHERE job = $1 AND state = $3",
        {job.id, core::name(core::next(job.state, event)), core::name(job.state)});
}

void ControlTables::mark_finished(std::int64_t job) {
    run("UPDATE {s}.backfill_job SET finished_at = clock_timestamp() WHERE job = $1 AND finished_at IS NULL", {job});
}

void ControlTables::cancel_job(const Job &job) {
    run("UPDATE {s}.backfill_job SET state = $2 WHERE job = $1 AND state = $3",
        {job.id, core::name(core::next(job.state, core::JobEvent::cancel)), core::name(job.state)});
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $2, claim = NULL, worker_pid = NULL, waiting_on = NULL, finished_at = clock_timestamp()
        WHERE job = $1 AND state = ANY ($3)
    )SQL",
        {job.id, core::name(core::PartitionState::canceled), core::sources(core::PartitionEvent::cancel)});
}

std::int64_t ControlTables::unfinished_job_of(Oid partition) {
    const pg::Result result = run(R"SQL(
        SELECT job FROM {s}.backfill_control
        WHERE partition_oid = $1 AND state IN ('pending', 'running', 'ready')
    )SQL",
                                  {partition});
    return result.empty() ? 0 : result.rows.front().integer(0);
}

std::optional<Partition> ControlTables::next_candidate(const Job &job, const std::vector<int> &passed) {
    std::vector<std::string> ordinals;
    ordinals.reserve(passed.size());
    for (const int ordinal : passed)
        ordinals.push_back(std::to_string(ordinal));
    // A build whose source reads the target would itself hold up a swap that
    // waits: none begins while there is one.
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.ordinal, c.partition_oid::bigint, c.partition, c.partition_bound, c.range_start,
               c.range_end, c.state, c.attempts, c.swap_attempts, c.partition_constraint, c.shadow_oid::bigint,
               COALESCE(c.rows, 0), COALESCE(c.fingerprint, ''), COALESCE(c.proof_oid, 0)::bigint
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job
        WHERE c.job = $1
          AND j.owner = $4
          AND c.state = ANY ($2)
          AND (c.not_before IS NULL OR c.not_before <= clock_timestamp())
          AND c.ordinal <> ALL ($3::integer[])
          AND NOT (c.state = 'pending' AND j.on_error = 'stop'
                   AND EXISTS (SELECT FROM {s}.backfill_control AS f WHERE f.job = $1 AND f.state = 'failed'))
          AND NOT (c.state = 'pending' AND j.reads_target
                   AND EXISTS (SELECT FROM {s}.backfill_control AS r WHERE r.job = $1 AND r.state = 'ready'))
        ORDER BY c.state = 'ready' DESC, c.ordinal
        LIMIT 1
        FOR UPDATE OF c SKIP LOCKED
    )SQL",
                                  {job.id, core::sources(core::PartitionEvent::claim), ordinals, job.owner});
    if (result.empty())
        return std::nullopt;
    return partition_of(result.rows.front());
}

void ControlTables::move(Partition &partition, core::PartitionEvent event, const std::string &more,
                         const pg::Params &more_params) {
    const core::PartitionState to = core::next(partition.state, event);
    pg::Params params{partition.job, partition.ordinal, partition.claim, core::name(partition.state), core::name(to)};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run("UPDATE {s}.backfill_control SET state = $5" + more +
                                      " WHERE job = $1 AND ordinal = $2 AND claim = $3 AND state = $4",
                                  params);
    if (result.processed != 1)
        throw LostClaim();
    partition.state = to;
}

void ControlTables::change(const Partition &partition, const std::string &assignments,
                           const pg::Params &more_params) {
    pg::Params params{partition.job, partition.ordinal, partition.claim};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result =
        run("UPDATE {s}.backfill_control SET " + assignments + " WHERE job = $1 AND ordinal = $2 AND claim = $3",
            params);
    if (result.processed != 1)
        throw LostClaim();
}

void ControlTables::claim(Partition &partition) {
    const core::PartitionState to = core::next(partition.state, core::PartitionEvent::claim);
    partition.claim = new_token();
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $3, claim = $4, worker_pid = pg_backend_pid(), waiting_on = NULL, not_before = NULL,
            started_at = COALESCE(started_at, clock_timestamp())
        WHERE job = $1 AND ordinal = $2
    )SQL",
        {partition.job, partition.ordinal, core::name(to), partition.claim});
    partition.state = to;
}

void ControlTables::begin_attempt(Partition &partition) {
    change(partition, "attempts = attempts + 1");
    partition.attempts++;
}

void ControlTables::record_shadow(Partition &partition, Oid shadow, const std::string &constraint,
                                  const std::string &fingerprint) {
    change(partition, "shadow_oid = $4, partition_constraint = $5, fingerprint = $6", {shadow, constraint, fingerprint});
    partition.fingerprint = fingerprint;
    partition.shadow = shadow;
    partition.constraint = constraint;
}

void ControlTables::forget_shadow(Partition &partition) {
    change(partition, "shadow_oid = NULL");
    partition.shadow = kNoOid;
}

void ControlTables::record_proof(Partition &partition, Oid proof) {
    change(partition, "proof_oid = $4", {proof});
    partition.proof = proof;
}

void ControlTables::built(Partition &partition, const BuildFigures &figures) {
    move(partition, core::PartitionEvent::built,
         ", rows = $6, wal_bytes = $7, build_time = make_interval(secs => $8), sqlstate = NULL, error = NULL",
         {figures.rows, figures.wal_bytes, figures.seconds.count()});
    partition.rows = figures.rows;
}

void ControlTables::lock_for_swap(const Partition &partition) {
    const pg::Result result = run(R"SQL(
        SELECT FROM {s}.backfill_control
        WHERE job = $1 AND ordinal = $2 AND claim = $3 AND state = $4
        FOR UPDATE SKIP LOCKED
    )SQL",
                                  {partition.job, partition.ordinal, partition.claim, core::name(partition.state)});
    if (result.empty())
        throw LostClaim();
}

void ControlTables::swapped(Partition &partition, Oid old_table, double lock_wait_seconds) {
    move(partition, core::PartitionEvent::swapped,
         ", old_oid = $6, shadow_oid = NULL, proof_oid = NULL, swap_attempts = swap_attempts + 1, swap_since = NULL,"
         " lock_wait = COALESCE(lock_wait, '0') + make_interval(secs => $7), worker_pid = NULL, waiting_on = NULL,"
         " finished_at = clock_timestamp()",
         {old_table, lock_wait_seconds});
}

void ControlTables::record_locked_for(const Partition &partition, double seconds) {
    change(partition, "locked_for = make_interval(secs => $4)", {seconds});
}

std::chrono::duration<double> ControlTables::swap_postponed(Partition &partition, double lock_wait_seconds,
                                                            Milliseconds pause, const std::string &waiting_on) {
    const pg::Result result = run(R"SQL(
        UPDATE {s}.backfill_control
        SET swap_attempts = swap_attempts + 1,
            swap_since = COALESCE(swap_since, clock_timestamp()),
            lock_wait = COALESCE(lock_wait, '0') + make_interval(secs => $4),
            not_before = clock_timestamp() + make_interval(secs => $5),
            waiting_on = $6,
            worker_pid = NULL
        WHERE job = $1 AND ordinal = $2 AND claim = $3
        RETURNING date_part('epoch', clock_timestamp() - swap_since)
    )SQL",
                                  {partition.job, partition.ordinal, partition.claim, lock_wait_seconds,
                                   std::chrono::duration<double>(pause).count(), waiting_on});
    if (result.empty())
        throw LostClaim();
    partition.swap_attempts++;
    return std::chrono::duration<double>(result.rows.front().number(0));
}

void ControlTables::attempt_failed(Partition &partition, core::PartitionEvent event, const pg::ErrorFields &error,
                                   Milliseconds pause) {
    std::string text = error.message;
    if (!error.detail.empty())
        text += "\nDetail: " + error.detail;
    if (!error.hint.empty())
        text += "\nHint: " + error.hint;
    if (!error.context.empty())
        text += "\nContext: " + error.context;
    move(partition, event,
         ", sqlstate = $6, error = $7, not_before = clock_timestamp() + make_interval(secs => $8), worker_pid = NULL,"
         " waiting_on = NULL, finished_at = CASE WHEN $5 = 'failed' THEN clock_timestamp() END",
         {pg::sqlstate_text(error.code), text, std::chrono::duration<double>(pause).count()});
    if (event == core::PartitionEvent::fail)
        run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1", {partition.job, partition.name + ": " + text});
}

void ControlTables::rebuild(Partition &partition, const std::string &reason) {
    move(partition, core::PartitionEvent::rebuild,
         ", rebuilds = rebuilds + 1, error = $6, swap_since = NULL, worker_pid = NULL, waiting_on = NULL", {reason});
}

void ControlTables::skip(Partition &partition, const std::string &reason) {
    move(partition, core::PartitionEvent::skip,
         ", error = $6, worker_pid = NULL, waiting_on = NULL, finished_at = clock_timestamp()", {reason});
}

// The phase stands in the worker's line in pg_stat_activity; how far it is, in
// the server's own progress views. Loading counts for 70 of 100, the indexes for 25.
std::vector<std::vector<std::optional<std::string>>> ControlTables::live(Oid role) {
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.ordinal, a.pid, line.phase,
               CASE line.phase
                   WHEN 'loading' THEN 0.7 * LEAST(1, COALESCE(copy.tuples_processed, 0)
                                                      / GREATEST(c.rows_estimate, 1)::float8)
                   WHEN 'indexing' THEN 0.7 + 0.25 * (line.part - 1 + COALESCE(index.share, 0)) / GREATEST(line.parts, 1)
                   WHEN 'analyzing' THEN 0.95
                   WHEN 'validating' THEN 0.98
                   WHEN 'swapping' THEN 0.99
                   ELSE 0
               END,
               copy.tuples_processed,
               NULL::text
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job
        JOIN pg_stat_activity AS a ON a.pid = c.worker_pid AND a.backend_type = 'partbackfill worker'
                                  AND a.datname = current_database()
        CROSS JOIN LATERAL (
            SELECT m[1] AS phase, m[3]::float8 AS part, m[4]::float8 AS parts
            FROM regexp_match(a.query, ': ([a-z]+)( ([0-9]+)/([0-9]+))?$') AS m
            WHERE a.query LIKE format('backfill job %s partition %s %%', c.job, c.ordinal)
        ) AS line
        LEFT JOIN pg_stat_progress_copy AS copy ON copy.pid = a.pid
        LEFT JOIN LATERAL (
            SELECT LEAST(1, p.blocks_done / GREATEST(p.blocks_total, 1)::float8) AS share
            FROM pg_stat_progress_create_index AS p WHERE p.pid = a.pid
        ) AS index ON true
        WHERE c.state IN ('running', 'ready') AND pg_has_role($1, j.owner, 'MEMBER')
    )SQL",
                                  {role});
    std::vector<std::vector<std::optional<std::string>>> rows;
    for (const pg::Row &row : result.rows) {
        rows.emplace_back();
        for (size_t i = 0; i < 7; i++)
            rows.back().push_back(row.field(i));
    }
    return rows;
}

std::vector<Oid> ControlTables::shadows(std::int64_t job) {
    std::vector<Oid> oids;
    for (const pg::Row &row :
         run("SELECT shadow_oid::bigint FROM {s}.backfill_control WHERE job = $1 AND shadow_oid IS NOT NULL", {job}).rows)
        oids.push_back(row.oid(0));
    return oids;
}

std::vector<Oid> ControlTables::old_tables(std::int64_t job) {
    std::vector<Oid> oids;
    for (const pg::Row &row :
         run("SELECT old_oid::bigint FROM {s}.backfill_control WHERE job = $1 AND old_oid IS NOT NULL", {job}).rows)
        oids.push_back(row.oid(0));
    return oids;
}

std::vector<Oid> ControlTables::proofs(std::int64_t job) {
    std::vector<Oid> oids;
    for (const pg::Row &row :
         run("SELECT proof_oid::bigint FROM {s}.backfill_control WHERE job = $1 AND proof_oid IS NOT NULL", {job}).rows)
        oids.push_back(row.oid(0));
    return oids;
}

void ControlTables::set_error(std::int64_t job, const std::string &error) {
    run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1", {job, error});
}

void ControlTables::forget_shadows(std::int64_t job) {
    run("UPDATE {s}.backfill_control SET shadow_oid = NULL WHERE job = $1 AND shadow_oid IS NOT NULL", {job});
}

void ControlTables::forget_old(std::int64_t job, Oid old_table) {
    run("UPDATE {s}.backfill_control SET old_oid = NULL WHERE job = $1 AND old_oid = $2", {job, old_table});
}

} // namespace partbackfill::job
