#include "partbackfill/job/publication_table.hpp"

#include "partbackfill/job/partition_row.hpp"

namespace partbackfill::job {

bool PublicationTable::is_due(const Job &job) const {
    return !run(R"SQL(
        SELECT
        FROM {s}.backfill_job AS j
        WHERE j.job = $1 AND j.state = $2 AND j.publishing
          AND EXISTS (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'ready')
          AND NOT EXISTS (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = ANY ('{{pending,running}}'))
          AND (j.reverts_from IS NOT NULL OR NOT EXISTS (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'failed'))
          AND NOT EXISTS (SELECT FROM {s}.backfill_control
                          WHERE job = $1 AND state = 'ready' AND (NOT held OR not_before > clock_timestamp()))
    )SQL",
                {job.id, core::name(core::JobState::running)})
                .empty();
}

void PublicationTable::hold(const Partition &partition) const {
    change(partition,
           "held = true, worker_pid = NULL, waiting_on = NULL, swap_since = NULL, not_before = NULL");
}

std::vector<Partition> PublicationTable::claim_all(const Job &job) const {
    const std::int64_t token = new_claim_token();
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET claim = $3, worker_pid = pg_backend_pid(), waiting_on = NULL, not_before = NULL,
            orphaned = orphaned + (worker_pid IS NOT NULL)::integer
        WHERE job = $1 AND state = $2
    )SQL",
        {job.id, core::name(core::next(core::PartitionState::ready, core::PartitionEvent::claim)), token});
    std::vector<Partition> partitions;
    for (const pg::Row &row : run("SELECT " + partition_columns() + R"SQL(
        FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.state = $2 AND c.claim = $3
        ORDER BY c.partition_bound = 'DEFAULT', c.ordinal
    )SQL",
                                  {job.id, core::name(core::PartitionState::ready), token})
                                  .rows) {
        partitions.push_back(partition_of(row));
        partitions.back().claim = token;
    }
    return partitions;
}

void PublicationTable::lock_for_swap(const std::vector<Partition> &partitions) const {
    const Partition &first = partitions.front();
    const pg::Result locked = run(R"SQL(
        SELECT FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.claim = $2 AND c.state = $3
          AND EXISTS (SELECT FROM {s}.backfill_job AS j WHERE j.job = $1 AND j.state = $4)
        ORDER BY c.ordinal
        FOR UPDATE OF c
    )SQL",
                                  {first.job, first.claim, core::name(core::PartitionState::ready),
                                   core::name(core::JobState::running)});
    if (locked.rows.size() != partitions.size())
        throw LostClaim();
}

int PublicationTable::published(std::int64_t job) const {
    return static_cast<int>(run("SELECT count(*) FROM {s}.backfill_control WHERE job = $1 AND state = $2",
                                {job, core::name(core::PartitionState::done)}, pg::Read::active_snapshot)
                                .rows.front()
                                .integer(0));
}

std::optional<std::string> PublicationTable::error_of(std::int64_t job) const {
    const pg::Result result =
        run("SELECT error FROM {s}.backfill_job WHERE job = $1", {job}, pg::Read::active_snapshot);
    return result.empty() ? std::nullopt : result.rows.front().field(0);
}

std::optional<std::string> PublicationTable::table_locked_here(const Job &job) const {
    const pg::Result result = run(R"SQL(
        WITH part AS (SELECT partition_oid, shadow_oid, old_oid, new_oid FROM {s}.backfill_control WHERE job = $1),
        parent AS (SELECT DISTINCT i.inhparent FROM part AS p JOIN pg_inherits AS i ON i.inhrelid IN (p.partition_oid, p.new_oid))
        SELECT l.relation::regclass::text
        FROM pg_locks AS l
        WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384
          AND l.relation NOT IN ($3::regclass, $4::regclass, $5::regclass)
          AND (l.mode <> 'AccessShareLock' AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = l.relation AND c.relkind IN ('r', 'p', 'f', 'm', 'v'))
               OR l.relation = $2
               OR l.relation IN (SELECT p.partition_oid FROM part AS p)
               OR l.relation IN (SELECT p.shadow_oid FROM part AS p)
               OR l.relation IN (SELECT p.old_oid FROM part AS p)
               OR l.relation IN (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                                 WHERE n.nspname = 'backfill_' || $1::bigint || '_new')
               OR l.relation IN (SELECT p.new_oid FROM part AS p)
               OR l.relation IN (SELECT p.inhparent FROM parent AS p)
               OR l.relation IN (SELECT d.partdefid FROM parent AS p JOIN pg_partitioned_table AS d ON d.partrelid = p.inhparent))
        LIMIT 1
    )SQL",
                                  {job.id, job.target, schema() + ".backfill_job",
                                   schema() + ".backfill_control", schema() + ".backfill_write"});
    return result.empty() ? std::nullopt : std::optional(result.rows.front().text(0));
}

void PublicationTable::give_back(std::int64_t job, std::int64_t claim) const {
    run("UPDATE {s}.backfill_control SET worker_pid = NULL WHERE job = $1 AND claim = $2 AND state = $3",
        {job, claim, core::name(core::PartitionState::ready)});
}

} // namespace partbackfill::job
