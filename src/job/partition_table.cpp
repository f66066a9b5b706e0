#include "partbackfill/job/partition_table.hpp"

#include "partbackfill/job/announcement.hpp"

namespace partbackfill::job {

std::map<int, Oid> PartitionTable::built_before(const Partition &partition) const {
    const pg::Result result = run(R"SQL(
        SELECT ordinal, partition_oid FROM {s}.backfill_control
        WHERE job = $1 AND ordinal <> $2 AND state = 'running' AND (ordinal < $2 OR shadow_oid IS NOT NULL)
    )SQL",
                                  {partition.job, partition.ordinal});
    std::map<int, Oid> found;
    for (const pg::Row &row : result.rows)
        found.emplace(static_cast<int>(row.integer(0)), row.oid(1));
    return found;
}

void PartitionTable::record_shadow(Partition &partition, Oid shadow, const std::string &constraint,
                                   const std::string &definition_digest,
                                   const std::string &shadow_digest) const {
    change(partition,
           "shadow_oid = $4, partition_constraint = $5, definition_digest = $6, shadow_digest = $7, built = "
           "false",
           {shadow, constraint, definition_digest, shadow_digest});
    partition.definition_digest = definition_digest;
    partition.shadow = shadow;
    partition.constraint = constraint;
}

void PartitionTable::forget_shadow(Partition &partition) const {
    change(partition, "shadow_oid = NULL, built = false");
    partition.shadow = kNoOid;
}

void PartitionTable::record_proof(Partition &partition, Oid proof) const {
    change(partition, "proof_oid = $4", {proof});
    partition.proof = proof;
}

void PartitionTable::record_rows(Partition &partition, std::int64_t rows) const {
    change(partition, "rows = $4", {rows});
    partition.rows = rows;
}

void PartitionTable::record_settling(const Partition &partition, bool settling) const {
    change(partition, "settling = $4", {settling});
}

void PartitionTable::built(Partition &partition, const BuildFigures &figures) const {
    move(
        partition, core::PartitionEvent::built,
        ", built = true, held = false, audited = false, suspect = false, settling = false, orphaned = 0, "
        "swap_since = "
        "NULL, rows = $6, "
        "wal_bytes = $7, "
        "build_time = make_interval(secs => $8), sqlstate = NULL, error = NULL,"
        " throttled_time = COALESCE(throttled_time, '0') + make_interval(secs => $9),"
        " stalled_time = COALESCE(stalled_time, '0') + make_interval(secs => $10), rows_before = $11::bigint",
        {figures.rows, figures.wal_bytes, figures.seconds.count(), figures.throttled.count(),
         figures.stalled.count(),
         figures.rows_before ? std::optional(std::to_string(*figures.rows_before)) : std::nullopt});
    partition.rows = figures.rows;
    partition.rows_before = figures.rows_before;
    partition.audited = false;
}

void PartitionTable::record_audited(Partition &partition, bool audited) const {
    change(partition, "audited = $4", {audited});
    partition.audited = audited;
}

void PartitionTable::lock_for_swap(const Partition &partition) const {
    const pg::Result result = run(R"SQL(
        SELECT FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2 AND c.claim = $3 AND c.state = $4
          AND EXISTS (SELECT FROM {s}.backfill_job AS j WHERE j.job = $1 AND j.state = $5)
        FOR UPDATE OF c
    )SQL",
                                  {partition.job, partition.ordinal, partition.claim,
                                   core::name(partition.state), core::name(core::JobState::running)});
    if (result.empty())
        throw LostClaim();
}

// The marks that are counted from now on begin with none.
void PartitionTable::swapped(Partition &partition, const SwapFigures &swap) const {
    const bool comes_back = partition.reverts_from == core::PartitionState::done;
    move(partition, comes_back ? core::PartitionEvent::reverted : core::PartitionEvent::swapped,
         ", old_oid = $6, new_oid = $7, shadow_oid = NULL, built = false, settling = false, proof_oid = NULL,"
         " reverts_from = NULL, revert_by = NULL, revert_forced = false, swap_attempts = swap_attempts + 1,"
         " swap_since = NULL, lock_wait = COALESCE(lock_wait, '0') + make_interval(secs => $8), worker_pid = "
         "NULL,"
         " waiting_on = NULL, finished_at = clock_timestamp(),"
         " build_snapshot = COALESCE($9::text::pg_snapshot, build_snapshot), capture_versions = $10,"
         " revert_snapshot = NULL, live_columns = $11",
         {swap.old_table, swap.live, swap.lock_wait_seconds,
          swap.captured.snapshot.empty() ? std::nullopt : std::optional(swap.captured.snapshot),
          swap.captured.trigger_versions, swap.live_columns});
    run("DELETE FROM {s}.backfill_write WHERE job = -$1 AND partition IN ($2, $3)",
        {partition.job, swap.old_table, swap.live});
    partition.old = swap.old_table;
}

BuildFigures PartitionTable::record_locked_for(const Partition &partition, double seconds) const {
    change(partition, "locked_for = make_interval(secs => $4)", {seconds});
    const pg::Row row = run(R"SQL(
        SELECT COALESCE(rows, 0) AS rows, COALESCE(wal_bytes, 0) AS wal_bytes,
               COALESCE(date_part('epoch', build_time), 0) AS build_time,
               COALESCE(date_part('epoch', throttled_time), 0) AS throttled_time
        FROM {s}.backfill_control
        WHERE job = $1 AND ordinal = $2
    )SQL",
                            {partition.job, partition.ordinal})
                            .rows.at(0);
    BuildFigures figures;
    figures.rows = row.integer("rows");
    figures.wal_bytes = row.integer("wal_bytes");
    figures.seconds = std::chrono::duration<double>(row.number("build_time"));
    figures.throttled = std::chrono::duration<double>(row.number("throttled_time"));
    return figures;
}

void PartitionTable::announce(const Partition &partition) const {
    run("SELECT pg_notify($1, $2)", {kChannel, announcement(partition.job, partition.ordinal, partition.name,
                                                            std::string(core::name(partition.state)))});
}

std::chrono::duration<double> PartitionTable::defer_swap(Partition &partition, double lock_wait_seconds,
                                                         Milliseconds pause,
                                                         const std::string &waiting_on) const {
    const pg::Result result = run(R"SQL(
        UPDATE {s}.backfill_control
        SET swap_attempts = swap_attempts + 1,
            swap_since = COALESCE(swap_since, clock_timestamp() - make_interval(secs => $4)),
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

void PartitionTable::defer_build(Partition &partition) const {
    move(partition, core::PartitionEvent::defer, ", attempts = attempts - 1");
    partition.attempts--;
}

// Locks the row of the job before that of the partition, as JobControl does.
void PartitionTable::attempt_failed(Partition &partition, core::PartitionEvent event,
                                    const pg::ErrorFields &error, Milliseconds pause, Keep keep) const {
    const std::string text = pg::error_text(error);
    if (event == core::PartitionEvent::fail)
        run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1",
            {partition.job, partition.name + ": " + text});
    move(partition, event,
         ", sqlstate = $6, error = $7, built = built AND $9, audit_failed = $10, not_before = "
         "clock_timestamp() + "
         "make_interval(secs => $8), worker_pid = NULL,"
         " waiting_on = NULL, finished_at = CASE WHEN $5 = 'failed' THEN clock_timestamp() END",
         {pg::sqlstate_text(error.code), text, std::chrono::duration<double>(pause).count(),
          keep == Keep::for_retry, keep == Keep::to_look_at});
}

void PartitionTable::rebuild(Partition &partition, const std::string &reason) const {
    move(partition, core::PartitionEvent::rebuild,
         ", rebuilds = rebuilds + 1, built = false, error = $6, swap_since = NULL, worker_pid = NULL, "
         "waiting_on = NULL",
         {reason});
    partition.rebuilds++;
}

void PartitionTable::skip(Partition &partition, const std::string &reason) const {
    move(partition, core::PartitionEvent::skip,
         ", sqlstate = NULL, error = $6, worker_pid = NULL, waiting_on = NULL, finished_at = "
         "clock_timestamp()",
         {reason});
}

} // namespace partbackfill::job
