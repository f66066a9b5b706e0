#include "partbackfill/job/partition_row.hpp"

#include <random>

namespace partbackfill::job {

const std::string &partition_columns() {
    static const std::string columns = R"SQL(
               c.job, c.ordinal, c.partition_oid::bigint, c.partition, c.partition_bound, c.range_start, c.range_end,
               c.state, c.attempts, c.rebuilds, c.swap_attempts, c.partition_constraint,
               COALESCE(c.definition_digest, '') AS definition_digest,
               COALESCE(c.shadow_oid, 0)::bigint AS shadow_oid, COALESCE(c.proof_oid, 0)::bigint AS proof_oid,
               COALESCE(c.rows, 0) AS rows, c.rows_before, c.built, c.audited, c.worker_pid IS NOT NULL AS claimed, c.orphaned, c.settling,
               c.reverts_from, COALESCE(c.revert_by, '') AS revert_by, c.revert_forced, COALESCE(c.old_oid, 0)::bigint AS old_oid
    )SQL";
    return columns;
}

Partition partition_of(const pg::Row &row) {
    Partition partition;
    partition.job = row.integer("job");
    partition.ordinal = static_cast<int>(row.integer("ordinal"));
    partition.live = row.oid("partition_oid");
    partition.name = row.text("partition");
    partition.bound = row.text("partition_bound");
    partition.range_start = row.field("range_start");
    partition.range_end = row.field("range_end");
    partition.state = core::partition_state(row.text("state"));
    partition.attempts = static_cast<int>(row.integer("attempts"));
    partition.rebuilds = static_cast<int>(row.integer("rebuilds"));
    partition.swap_attempts = static_cast<int>(row.integer("swap_attempts"));
    partition.constraint = row.field("partition_constraint");
    partition.definition_digest = row.text("definition_digest");
    partition.shadow = row.oid("shadow_oid");
    partition.proof = row.oid("proof_oid");
    partition.rows = row.integer("rows");
    if (!row.is_null("rows_before"))
        partition.rows_before = row.integer("rows_before");
    partition.built = row.boolean("built");
    partition.audited = row.boolean("audited");
    partition.claimed = row.boolean("claimed");
    partition.orphaned = static_cast<int>(row.integer("orphaned"));
    partition.settling = row.boolean("settling");
    if (row.is_null("reverts_from"))
        return partition;
    partition.reverts_from = core::partition_state(row.text("reverts_from"));
    partition.revert_by = row.text("revert_by") == kByBuild ? RevertBy::build : RevertBy::exchange;
    partition.revert_forced = row.boolean("revert_forced");
    partition.kept = row.oid("old_oid");
    if (partition.comes_back())
        partition.shadow = partition.kept;
    return partition;
}

std::int64_t new_claim_token() {
    std::random_device device;
    return static_cast<std::int64_t>((static_cast<std::uint64_t>(device()) << 31) ^ device());
}

} // namespace partbackfill::job
