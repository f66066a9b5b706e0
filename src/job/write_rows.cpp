#include "partbackfill/job/control_tables.hpp"

namespace partbackfill::job {

// swap_since counts from here: what was waited for before the build is over.
void ControlTables::record_sight(const Partition &partition, const engine::Sight &seen) {
    change(partition, "seen_snapshot = $4::text::pg_snapshot, seen_guard = $5, swap_since = NULL",
           {seen.snapshot, seen.guard});
}

// Marks older than all that the snapshot does not see are passed by in the index.
bool ControlTables::lacks_writes(const Partition &partition, const engine::Sight &now) {
    return run(R"SQL(
        SELECT NOT $3 OR c.seen_guard IS DISTINCT FROM $4
               OR EXISTS (SELECT FROM {s}.backfill_write AS w
                          WHERE w.job = c.job AND w.partition = c.partition_oid
                            AND w.xid >= pg_snapshot_xmin(c.seen_snapshot)
                            AND NOT pg_visible_in_snapshot(w.xid, c.seen_snapshot))
        FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2
    )SQL",
               {partition.job, partition.ordinal, now.guarded, now.guard})
        .rows.at(0)
        .boolean(0);
}

void ControlTables::record_seal(const Partition &partition, const std::string &seal) {
    change(partition, "seal = $4", {seal});
}

bool ControlTables::shadow_untouched(const Partition &partition, const std::string &now) {
    return run(R"SQL(
        SELECT c.seal = $3
               AND NOT EXISTS (SELECT FROM {s}.backfill_write AS w WHERE w.job = c.job AND w.partition = c.shadow_oid)
        FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2
    )SQL",
               {partition.job, partition.ordinal, now})
        .rows.at(0)
        .boolean(0);
}

void ControlTables::forget_writes(std::int64_t job, Oid partition) {
    run("DELETE FROM {s}.backfill_write WHERE job = $1 AND partition = $2", {job, partition});
}

} // namespace partbackfill::job
