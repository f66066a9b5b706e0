#include "partbackfill/job/leftovers.hpp"

namespace partbackfill::job {

namespace {

// Condition on a row c of backfill_control: the swap can still be made. $2 is false once the job
// is canceled.
constexpr const char *kKept = "($2 AND c.built AND c.state IN ('ready', 'failed'))";

// The shadow stays to be looked at, and nothing else of the partition.
constexpr const char *kToLookAt = "($2 AND c.audit_failed AND c.state = 'failed')";

// A swap or an exchange back has left a kept table, and may be undone.
constexpr const char *kWatched = "(c.old_oid IS NOT NULL AND c.state IN ('done', 'reverted'))";

bool may_go_on(const Job &job) {
    return job.state != core::JobState::canceled;
}

} // namespace

Leftovers LeftoverRows::find(const Job &job) const {
    Leftovers found;
    const pg::Result result = run(std::string(R"SQL(
        SELECT c.partition_oid::bigint, COALESCE(c.shadow_oid, 0)::bigint AS shadow_oid,
               COALESCE(c.proof_oid, 0)::bigint AS proof_oid, COALESCE(c.old_oid, 0)::bigint AS old_oid,
               COALESCE(c.new_oid, 0)::bigint AS new_oid, )SQL") +
                                      kWatched + " AS watched, " + kKept + " AS kept, " + kToLookAt +
                                      " AS to_look_at FROM {s}.backfill_control AS c WHERE c.job = $1",
                                  {job.id, may_go_on(job)});
    for (const pg::Row &row : result.rows) {
        const Oid partition = row.oid("partition_oid");
        const Oid shadow = row.oid("shadow_oid");
        if (const Oid proof = row.oid("proof_oid"); proof != kNoOid)
            found.proofs.push_back(proof);
        if (job.keep_old && row.boolean("watched")) {
            found.watched_live.push_back(row.oid("new_oid"));
            found.watched_old.push_back(row.oid("old_oid"));
        }
        if (row.boolean("kept")) {
            found.kept.push_back(partition);
            found.kept.push_back(shadow);
            continue;
        }
        found.partitions.push_back(partition);
        if (shadow != kNoOid)
            (row.boolean("to_look_at") ? found.kept : found.shadows).push_back(shadow);
    }
    return found;
}

// The name of a proof tells which row of backfill_control to look at, and that row whether the
// constraint is its proof.
std::vector<Oid> LeftoverRows::proofs_on(Oid partition) const {
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

std::vector<Oid> LeftoverRows::old_tables(std::int64_t job) const {
    std::vector<Oid> oids;
    for (const pg::Row &row :
         run("SELECT old_oid::bigint FROM {s}.backfill_control WHERE job = $1 AND old_oid IS NOT NULL", {job})
             .rows)
        oids.push_back(row.oid(0));
    return oids;
}

bool LeftoverRows::keeps_shadow(std::int64_t job) const {
    return !run("SELECT FROM {s}.backfill_control WHERE job = $1 AND built LIMIT 1", {job}).empty();
}

void LeftoverRows::tidying_waits(std::int64_t job, Oid table, const std::string &waiting_on) const {
    run(R"SQL(
        UPDATE {s}.backfill_control AS c SET waiting_on = $3
        WHERE c.job = $1
          AND c.ordinal = (SELECT o.ordinal FROM {s}.backfill_control AS o
                           WHERE o.job = $1
                           -- The table of a proof need not be in the job.
                           ORDER BY $2 IN (o.partition_oid, o.shadow_oid, o.old_oid) DESC NULLS LAST, o.proof_oid IS NULL, o.ordinal
                           LIMIT 1)
    )SQL",
        {job, table, waiting_on});
}

void LeftoverRows::forget(const Job &job) const {
    run(std::string(R"SQL(
        DELETE FROM {s}.backfill_write AS w
        WHERE w.job IN ($1, -$1)
          AND NOT EXISTS (SELECT FROM {s}.backfill_control AS c
                          WHERE c.job = $1 AND w.partition IN (c.partition_oid, c.shadow_oid) AND )SQL") +
            kKept +
            ") AND NOT EXISTS (SELECT FROM {s}.backfill_control AS c"
            " WHERE c.job = $1 AND w.partition IN (c.new_oid, c.old_oid) AND $3 AND " +
            kWatched + ")",
        {job.id, may_go_on(job), job.keep_old});
    run(std::string(R"SQL(
        UPDATE {s}.backfill_control AS c
        SET shadow_oid = (SELECT s.oid FROM pg_class AS s WHERE s.oid = c.shadow_oid), built = false,
            audit_failed = )SQL") +
            kToLookAt + " WHERE c.job = $1 AND (c.shadow_oid IS NOT NULL OR c.audit_failed) AND NOT " + kKept,
        {job.id, may_go_on(job)});
    run("UPDATE {s}.backfill_control SET waiting_on = NULL WHERE job = $1 AND waiting_on LIKE 'tidying up: "
        "%'",
        {job.id});
    run("UPDATE {s}.backfill_control SET proof_oid = NULL WHERE job = $1 AND proof_oid IS NOT NULL",
        {job.id});
}

void LeftoverRows::forget_old(std::int64_t job, Oid old_table) const {
    run("UPDATE {s}.backfill_control SET old_oid = NULL WHERE job = $1 AND old_oid = $2", {job, old_table});
}

} // namespace partbackfill::job
