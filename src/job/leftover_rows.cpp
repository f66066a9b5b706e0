// What the partitions of a job have left lying around.
#include "partbackfill/job/control_tables.hpp"

namespace partbackfill::job {

namespace {

// Of a row c of backfill_control: its swap can still be made. $2 is false once the
// job is canceled.
constexpr const char *kKept = "($2 AND c.built AND c.state IN ('ready', 'failed'))";

bool may_go_on(const Job &job) { return job.state != core::JobState::canceled; }

} // namespace

ControlTables::Leftovers ControlTables::leftovers(const Job &job) {
    Leftovers found;
    const pg::Result result = run(std::string(R"SQL(
        SELECT c.partition_oid::bigint, COALESCE(c.shadow_oid, 0)::bigint, COALESCE(c.proof_oid, 0)::bigint, )SQL") +
                                      kKept + " FROM {s}.backfill_control AS c WHERE c.job = $1",
                                  {job.id, may_go_on(job)});
    for (const pg::Row &row : result.rows) {
        if (row.boolean(3)) {
            found.all = false;
            continue;
        }
        found.partitions.push_back(row.oid(0));
        if (row.oid(1) != kNoOid)
            found.shadows.push_back(row.oid(1));
        if (row.oid(2) != kNoOid)
            found.proofs.push_back(row.oid(2));
    }
    return found;
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
        SET shadow_oid = (SELECT s.oid FROM pg_class AS s WHERE s.oid = c.shadow_oid), proof_oid = NULL, built = false
        WHERE c.job = $1 AND (c.shadow_oid IS NOT NULL OR c.proof_oid IS NOT NULL) AND NOT )SQL") +
            kKept,
        {job.id, may_go_on(job)});
}

} // namespace partbackfill::job
