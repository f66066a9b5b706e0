#include "partbackfill/job/compared_partitions.hpp"

namespace partbackfill::job {

std::vector<ComparedPartition> ComparedPartitions::select(std::int64_t job, const std::string &condition,
                                                          const pg::Param &value) const {
    std::vector<ComparedPartition> found;
    for (const pg::Row &row : run(R"SQL(
        SELECT c.ordinal, c.partition, c.state, COALESCE(o.oid, 0)::bigint AS old_table,
               COALESCE(n.oid, 0)::bigint AS new_table
        FROM {s}.backfill_control AS c
        LEFT JOIN pg_class AS o ON o.oid = CASE c.state WHEN 'ready' THEN c.partition_oid WHEN 'done' THEN c.old_oid
                                                                WHEN 'reverted' THEN c.new_oid END
        LEFT JOIN pg_class AS n ON n.oid = CASE WHEN c.state = 'ready' AND c.built THEN c.shadow_oid
                                                WHEN c.state = 'done' THEN c.new_oid
                                                WHEN c.state = 'reverted' THEN c.old_oid END
        WHERE c.job = $1 AND c.reverts_from IS NULL AND )SQL" +
                                      condition + " ORDER BY c.ordinal",
                                  {job, value}, pg::Read::active_snapshot)
                                  .rows) {
        ComparedPartition partition{static_cast<int>(row.integer("ordinal")), row.text("partition"),
                                    row.text("state")};
        if (const Oid old_table = row.oid("old_table"), new_table = row.oid("new_table");
            old_table != kNoOid && new_table != kNoOid) {
            partition.old_table = old_table;
            partition.new_table = new_table;
        }
        found.push_back(std::move(partition));
    }
    return found;
}

std::vector<ComparedPartition> ComparedPartitions::all(std::int64_t job) const {
    std::vector<ComparedPartition> found =
        select(job, "c.state = ANY ($2)", std::vector<std::string>{"ready", "done", "reverted"});
    std::erase_if(found, [](const ComparedPartition &partition) { return !partition.has_both(); });
    return found;
}

std::optional<ComparedPartition> ComparedPartitions::find(std::int64_t job, int ordinal) const {
    std::vector<ComparedPartition> found = select(job, "c.ordinal = $2", ordinal);
    return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
}

std::optional<ComparedPartition> ComparedPartitions::find_by_table(std::int64_t job, Oid table) const {
    std::vector<ComparedPartition> found =
        select(job, "$2 IN (c.partition_oid, c.shadow_oid, c.old_oid, c.new_oid)", table);
    return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
}

} // namespace partbackfill::job
