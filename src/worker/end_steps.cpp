#include "partbackfill/worker/steps.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/foreign_keys.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/write_guard.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/fault.hpp"

namespace partbackfill::worker {

std::vector<engine::TableLock> locks_to_drop(const job::Job &job, Oid table) {
    const pg::PinnedSettings pinned;
    if (!engine::is_own_table(job.id, table))
        return {};
    std::vector<engine::TableLock> locks;
    for (const Oid referred : engine::tables_referred_to(table))
        locks.push_back({referred, engine::LockMode::share_row_exclusive});
    locks.push_back({table, engine::LockMode::access_exclusive});
    return locks;
}

bool drop_politely(const job::Job &job, Oid table) {
    const auto locks = locks_to_drop(job, table);
    pg::Subtransaction subtransaction; // gives back what it had of the locks
    if (!locks.empty() && !engine::lock_politely(locks, job.lock_timeout))
        return false;
    const engine::BoundedWaits bounded(job.lock_timeout);
    try {
        if (locks.empty())
            engine::drop_stray_statistics(job.id, table);
        else
            engine::drop_own_table(job.id, table);
    } catch (const pg::Error &error) {
        if (!engine::is_contention(error))
            throw;
        return false;
    }
    subtransaction.commit();
    return true;
}

// That nobody could be told is no failure of the partition's.
void announce(const job::Partition &partition) {
    try {
        pg::Transaction transaction;
        pg::execute("SET LOCAL synchronous_commit = off"); // who listens asks no more of it
        {
            job::ControlTables control;
            control.announce(partition);
        }
        transaction.commit();
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled)
            throw;
        log_warning(fmt::format("backfill job {}: {}", partition.job, error.fields().message));
    }
}

void skip(const job::Job &job, job::Partition &partition, const std::string &reason) {
    // What cannot be dropped now goes at the end of the job.
    const bool dropped = partition.shadow != kNoOid && drop_politely(job, partition.shadow);
    job::ControlTables control;
    if (dropped)
        control.forget_shadow(partition);
    control.skip(partition, reason);
    log_line(fmt::format("backfill job {} skipped partition {}: {}", job.id, partition.name, reason));
}

void record_failure(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
                    const pg::ErrorFields &error, job::Milliseconds pause, Remains remains) {
    const bool keep = remains == Remains::kept && partition.state == core::PartitionState::ready;
    {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            control.attempt_failed(partition, event, error, pause, keep);
        }
        transaction.commit();
    }
    log_line(fmt::format("backfill job {} could not rebuild partition {} in attempt {} of {}: {}", job.id, partition.name,
                         partition.attempts, job.max_attempts, error.message));
    if (keep)
        return;
    if (event == core::PartitionEvent::fail)
        unguard(job, partition.live); // or the end of the job does
    if (partition.shadow == kNoOid)
        return;
    pg::Transaction transaction;
    if (!drop_politely(job, partition.shadow))
        return; // the next attempt, or the end of the job, tries again
    {
        job::ControlTables control;
        control.forget_shadow(partition);
    }
    transaction.commit();
}

void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause) {
    const auto event = partition.attempts < job.max_attempts ? core::PartitionEvent::retry : core::PartitionEvent::fail;
    record_failure(job, partition, event, error, pause);
}

namespace {

// CHECKs on DEFAULT partitions, of partitions that were not swapped. Raises when
// the lock is not had in time.
void drop_proofs(const job::Job &job, const std::vector<Oid> &proofs) {
    const pg::PinnedSettings pinned;
    const auto tables = engine::tables_of_proofs(proofs);
    if (tables.empty())
        return;
    std::vector<engine::TableLock> locks;
    for (const Oid table : tables)
        locks.push_back({table, engine::LockMode::access_exclusive});
    if (!engine::lock_politely(locks, job.lock_timeout))
        pg::raise(pg::sqlcode::kLockNotAvailable,
                  fmt::format("could not lock partition \"{}\" to tidy up",
                              pg::query_row("SELECT relname FROM pg_class WHERE oid = $1", {tables.front()}).text(0)));
    for (const Oid proof : proofs)
        engine::drop_proof(proof);
}

[[noreturn]] void raise_locked(const std::string &what) {
    pg::raise(pg::sqlcode::kLockNotAvailable, fmt::format("could not lock {} to tidy up", what));
}

// What cannot be dropped, because somebody depends on it, stays and is told of, and keeps
// nothing else from going. A lock comes free some time, and a cancel is no reason.
class Tidying {
public:
    template <class F>
    void attempt(F &&work) {
        try {
            work();
        } catch (const pg::Error &error) {
            if (engine::is_contention(error) || error.code() == pg::sqlcode::kQueryCanceled)
                throw;
            if (left_.empty())
                left_ = "could not tidy up: " + error.fields().message;
        }
    }
    const std::string &left() const noexcept { return left_; }

private:
    std::string left_;
};

// In a transaction of its own: no lock is held while another is waited for.
void drop_table(const job::Job &job, Oid table) {
    pg::Transaction transaction;
    if (!drop_politely(job, table))
        raise_locked("a table of the job");
    transaction.commit();
}

void drop_guards(const job::Job &job, const std::vector<Oid> &partitions) {
    std::vector<Oid> left;
    {
        pg::Transaction transaction;
        {
            const pg::PinnedSettings pinned;
            left = engine::guarded(job.id, partitions);
        }
        transaction.commit();
    }
    for (const Oid partition : left)
        if (!unguard(job, partition))
            raise_locked("a partition");
}

// Everything that lies around and is of no use any more. Returns what could not go.
std::string tidy_up(const job::Job &job) {
    job::ControlTables::Leftovers left;
    {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            left = control.leftovers(job);
            if (!job.keep_old)
                for (const Oid table : control.old_tables(job.id))
                    left.shadows.push_back(table);
        }
        transaction.commit();
    }
    Tidying tidying;
    tidying.attempt([&] { drop_guards(job, left.partitions); });
    for (const Oid table : left.shadows)
        tidying.attempt([&] { drop_table(job, table); });
    tidying.attempt([&] {
        pg::Transaction transaction;
        drop_proofs(job, left.proofs);
        transaction.commit();
    });
    tidying.attempt([&] {
        pg::Transaction transaction;
        if (left.all)
            engine::drop_empty_schemas(job.id);
        transaction.commit();
    });
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.forget_leftovers(job);
    }
    transaction.commit();
    return tidying.left();
}

} // namespace

void end_job(const job::Job &job) {
    const std::string left = tidy_up(job);
    if (!left.empty())
        log_warning(fmt::format("backfill job {} {}", job.id, left));
    reach("end");
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.lock_job(job.id);
        // A retry may have queued a partition meanwhile: the job goes on.
        if (job.state == core::JobState::running && control.census(job.id).claimable > 0)
            return;
        if (!left.empty())
            control.set_error(job.id, left);
        if (job.state == core::JobState::running)
            control.end_job(job, control.census(job.id).failed > 0 ? core::JobEvent::fail : core::JobEvent::finish);
        else
            control.mark_tidied(job);
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} {}", job.id, job.state == core::JobState::paused ? "is paused" : "has ended"));
}

} // namespace partbackfill::worker
