#include "partbackfill/job/write_table.hpp"

namespace partbackfill::job {

// The waiting for the locks of this build's swap begins anew.
void WriteTable::record_write_baseline(const Partition &partition, const writes::WriteBaseline &seen) const {
    change(partition, "build_snapshot = $4::text::pg_snapshot, capture_versions = $5, swap_since = NULL",
           {seen.snapshot, seen.trigger_versions});
}

// The index skips marks that are older than all that the snapshot does not see.
bool WriteTable::lacks_writes(const Partition &partition, const writes::WriteBaseline &now) const {
    return run(R"SQL(
        SELECT NOT $3 OR c.capture_versions IS DISTINCT FROM $4
               OR EXISTS (SELECT FROM {s}.backfill_write AS w
                          WHERE w.job IN (c.job, -c.job) AND w.partition = c.partition_oid
                            AND w.xid >= pg_snapshot_xmin(c.build_snapshot)
                            AND NOT pg_visible_in_snapshot(w.xid, c.build_snapshot))
        FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2
    )SQL",
               {partition.job, partition.ordinal, now.captured, now.trigger_versions})
        .rows.at(0)
        .boolean(0);
}

void WriteTable::record_shadow_digest(const Partition &partition, const std::string &shadow_digest) const {
    change(partition, "shadow_digest = $4", {shadow_digest});
}

bool WriteTable::shadow_unchanged(const Partition &partition, const std::string &now) const {
    return run(R"SQL(
        SELECT c.shadow_digest = $3
               AND NOT EXISTS (SELECT FROM {s}.backfill_write AS w
                               WHERE w.job IN (c.job, -c.job) AND w.partition = $4
                                 -- A kept table has marks from the time before it was kept.
                                 AND NOT ($5 AND pg_visible_in_snapshot(w.xid, COALESCE(c.revert_snapshot, c.build_snapshot))))
               -- What was written to a kept table after it was read would go with it.
               AND NOT ($6 AND EXISTS (SELECT FROM {s}.backfill_write AS w
                                       WHERE w.job IN (c.job, -c.job) AND w.partition = c.old_oid
                                         AND NOT pg_visible_in_snapshot(w.xid, COALESCE(c.revert_snapshot, c.build_snapshot))))
        FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2
    )SQL",
               {partition.job, partition.ordinal, now, partition.shadow, partition.comes_back(),
                partition.is_restored()})
        .rows.at(0)
        .boolean(0);
}

void WriteTable::forget_writes(const Partition &partition, bool keeps_old) const {
    run(R"SQL(
        DELETE FROM {s}.backfill_write AS w USING {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2 AND w.job = $1 AND w.partition IN ($3, $4)
          AND NOT ($5 AND NOT pg_visible_in_snapshot(w.xid, c.build_snapshot))
    )SQL",
        {partition.job, partition.ordinal, partition.live, partition.shadow, keeps_old});
}

} // namespace partbackfill::job
