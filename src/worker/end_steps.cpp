#include "partbackfill/worker/steps.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"

namespace partbackfill::worker {

void skip(const job::Job &job, job::Partition &partition, const std::string &reason) {
    if (partition.shadow != kNoOid)
        engine::drop_own_table(job.id, partition.shadow);
    job::ControlTables control;
    if (partition.shadow != kNoOid)
        control.forget_shadow(partition);
    control.skip(partition, reason);
    log_line(fmt::format("backfill job {} skipped partition {}: {}", job.id, partition.name, reason));
}

void record_failure(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
                    const pg::ErrorFields &error, job::Milliseconds pause) {
    {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            control.attempt_failed(partition, event, error, pause);
        }
        transaction.commit();
    }
    if (partition.shadow == kNoOid)
        return;
    pg::Transaction transaction;
    if (engine::drop_own_table(job.id, partition.shadow)) {
        job::ControlTables control;
        control.forget_shadow(partition);
    }
    transaction.commit();
}

void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause) {
    const auto event = partition.attempts < job.max_attempts ? core::PartitionEvent::retry : core::PartitionEvent::fail;
    record_failure(job, partition, event, error, pause);
    log_line(fmt::format("backfill job {} could not rebuild partition {} in attempt {} of {}: {}", job.id, partition.name,
                         partition.attempts, job.max_attempts, error.message));
}

namespace {

// CHECKs on DEFAULT partitions, of partitions that were not swapped. Raises when
// the lock is not had in time.
void drop_proofs(const job::Job &job, const std::vector<Oid> &proofs) {
    const pg::PinnedSettings pinned;
    const auto tables = engine::tables_of_proofs(proofs);
    if (tables.empty())
        return;
    std::chrono::steady_clock::time_point had;
    if (!engine::lock_exclusively(tables, job.lock_timeout, &had))
        pg::raise(pg::sqlcode::kLockNotAvailable,
                  fmt::format("could not lock partition \"{}\" to tidy up",
                              pg::query_row("SELECT relname FROM pg_class WHERE oid = $1", {tables.front()}).text(0)));
    for (const Oid proof : proofs)
        engine::drop_proof(proof);
}

// Everything that lies around, in one transaction.
void tidy_up(const job::Job &job) {
    pg::Transaction transaction;
    std::vector<Oid> leftovers;
    std::vector<Oid> proofs;
    {
        job::ControlTables control;
        leftovers = control.shadows(job.id);
        if (!job.keep_old)
            for (const Oid table : control.old_tables(job.id))
                leftovers.push_back(table);
        proofs = control.proofs(job.id);
    }
    for (const Oid table : leftovers)
        engine::drop_own_table(job.id, table);
    drop_proofs(job, proofs);
    engine::drop_empty_schemas(job.id);
    {
        job::ControlTables control;
        control.forget_shadows(job.id);
    }
    transaction.commit();
}

} // namespace

void end_job(const job::Job &job) {
    std::string left;
    try {
        tidy_up(job);
    } catch (const pg::Error &error) {
        // A lock comes free some time, a cancel is no reason; what cannot be
        // dropped because somebody depends on it stays, and is told of.
        if (error.code() == pg::sqlcode::kLockNotAvailable || error.code() == pg::sqlcode::kQueryCanceled ||
            error.code() == pg::sqlcode::kDeadlockDetected)
            throw;
        left = "could not tidy up: " + error.fields().message;
        log_warning(fmt::format("backfill job {} {}", job.id, left));
    }
    pg::Transaction transaction;
    {
        job::ControlTables control;
        if (!left.empty())
            control.set_error(job.id, left);
        if (job.state == core::JobState::running)
            control.end_job(job, control.census(job.id).failed > 0 ? core::JobEvent::fail : core::JobEvent::finish);
        else
            control.mark_finished(job.id);
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} has ended", job.id));
}

} // namespace partbackfill::worker
