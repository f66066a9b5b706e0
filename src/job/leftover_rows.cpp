// What the partitions of a job have left lying around.
#include "partbackfill/job/control_tables.hpp"

namespace partbackfill::job {

namespace {

// Of a row c of backfill_control: its swap can still be made. $2 is false once the
// job is canceled.
constexpr const char *kKept = "($2 AND c.built AND c.state IN ('ready', 'failed'))";

bool may_go_on(const Job &job) {
    return job.state != core::JobState::canceled;
}

} // namespace

ControlTables::Leftovers ControlTables::leftovers(const Job &job) {
    Leftovers found;
    const pg::Result result = run(std::string(R"SQL(
        SELECT c.partition_oid::bigint, COALESCE(c.shadow_oid, 0)::bigint, COALESCE(c.proof_oid, 0)::bigint, )SQL") +
                                      kKept + " FROM {s}.backfill_control AS c WHERE c.job = $1",
                                  {job.id, may_go_on(job)});
    for (const pg::Row &row : result.rows) {
        if (row.oid(2) != kNoOid)
            found.proofs.push_back(row.oid(2));
        if (row.boolean(3)) {
            found.kept.push_back(row.oid(0));
            found.kept.push_back(row.oid(1));
            continue;
        }
        found.partitions.push_back(row.oid(0));
        if (row.oid(1) != kNoOid)
            found.shadows.push_back(row.oid(1));
    }
    return found;
}

// The name of a proof says of which row of backfill_control it may be, and that row whether it is.
std::vector<Oid> ControlTables::proofs_on(Oid partition) {
    std::vector<Oid> found;
    for (const pg::Row &row : run(R"SQL(
        SELECT k.oid::bigint
        FROM pg_constraint AS k
        CROSS JOIN LATERAL regexp_match(k.conname, '^partbackfill_([0-9]{{1,18}})_([0-9]{{1,9}})(_[0-9]+)?$') AS name
        JOIN {s}.backfill_control AS c ON c.job = name[1]::bigint AND c.ordinal = name[2]::integer AND c.proof_oid = k.oid
        WHERE k.conrelid = $1 AND k.contype = 'c'
    )SQL",
                                  {partition})
                                  .rows)
        found.push_back(row.oid(0));
    return found;
}

void ControlTables::tidying_waits(std::int64_t job, Oid table, const std::string &waiting_on) {
    run(R"SQL(
        UPDATE {s}.backfill_control AS c SET waiting_on = $3
        WHERE c.job = $1
          AND c.ordinal = (SELECT o.ordinal FROM {s}.backfill_control AS o
                           WHERE o.job = $1
                           -- A proof is on a table that need not be one of the job's.
                           ORDER BY $2 IN (o.partition_oid, o.shadow_oid, o.old_oid) DESC NULLS LAST, o.proof_oid IS NULL, o.ordinal
                           LIMIT 1)
    )SQL",
        {job, table, waiting_on});
}

void ControlTables::forget_leftovers(const Job &job) {
    run(std::string(R"SQL(
        DELETE FROM {s}.backfill_write AS w
        WHERE w.job = $1
          AND NOT EXISTS (SELECT FROM {s}.backfill_control AS c
                          WHERE c.job = w.job AND w.partition IN (c.partition_oid, c.shadow_oid) AND )SQL") +
            kKept + ")",
        {job.id, may_go_on(job)});
    run(std::string(R"SQL(
        UPDATE {s}.backfill_control AS c
        SET shadow_oid = (SELECT s.oid FROM pg_class AS s WHERE s.oid = c.shadow_oid), built = false
        WHERE c.job = $1 AND c.shadow_oid IS NOT NULL AND NOT )SQL") +
            kKept,
        {job.id, may_go_on(job)});
    run("UPDATE {s}.backfill_control SET waiting_on = NULL WHERE job = $1 AND waiting_on LIKE 'tidying up: "
        "%'",
        {job.id});
    run("UPDATE {s}.backfill_control SET proof_oid = NULL WHERE job = $1 AND proof_oid IS NOT NULL",
        {job.id});
}

} // namespace partbackfill::job
