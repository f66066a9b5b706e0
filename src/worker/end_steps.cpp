#include "partbackfill/worker/steps.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/foreign_keys.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/write_guard.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/rights.hpp"
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

// What an unfinished job has left goes whatever its owner may do to the table by now, but
// then, and when another role tidies up, nobody waits for that as long as its owner chose.
job::Milliseconds tidying_limit(const job::Job &job, Oid table) {
    constexpr job::Milliseconds kMostForOthers{100};
    const auto owner = pg::owner_of(table);
    const bool is_own = job.owner == pg::current_role() && owner && pg::may_act_as(*owner);
    return is_own ? job.lock_timeout : std::min(job.lock_timeout, kMostForOthers);
}

bool drop_politely(const job::Job &job, Oid table) {
    engine::check_may_drop_own(job.id, table);
    const auto limit = tidying_limit(job, table);
    const auto locks = locks_to_drop(job, table);
    pg::Subtransaction subtransaction; // gives back what it had of the locks
    if (!locks.empty() && !engine::lock_politely(locks, limit))
        return false;
    try {
        const engine::BoundedWaits bounded(limit);
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
    log_line(fmt::format("backfill job {} could not rebuild partition {} in attempt {} of {}: {}", job.id,
                         partition.name, partition.attempts, job.max_attempts, error.message));
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
    const auto event =
        partition.attempts < job.max_attempts ? core::PartitionEvent::retry : core::PartitionEvent::fail;
    record_failure(job, partition, event, error, pause);
}

namespace {

// What is to go is locked by others: the table, and by whom.
struct Blocked {
    Oid table;
    std::string holders;
};

[[noreturn]] void blocked(Oid table, const std::vector<engine::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    throw Blocked{table, engine::lock_holders(locks)};
}

// CHECKs on DEFAULT partitions, one table at a time: no lock is held while another is waited for.
void drop_proofs(const job::Job &job, const std::vector<Oid> &proofs) {
    std::vector<Oid> tables;
    {
        pg::Transaction transaction;
        {
            const pg::PinnedSettings pinned;
            tables = engine::tables_of_proofs(proofs);
        }
        transaction.commit();
    }
    for (const Oid table : tables) {
        pg::Transaction transaction;
        const std::vector<engine::TableLock> locks{{table, engine::LockMode::access_exclusive}};
        if (!engine::lock_politely(locks, tidying_limit(job, table)))
            blocked(table, locks);
        {
            const pg::PinnedSettings pinned;
            for (const Oid proof : proofs)
                engine::drop_proof(proof, table);
        }
        transaction.commit();
    }
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
                left_ = job::kCouldNotTidyUp + error.fields().message;
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
        blocked(table, locks_to_drop(job, table));
    transaction.commit();
}

void drop_guards(const job::Job &job, const std::vector<Oid> &tables) {
    for (const Oid table : tables) {
        if (unguard(job, table))
            continue;
        pg::Transaction transaction;
        blocked(table, {{table, engine::LockMode::share_row_exclusive}});
    }
}

// What the catalogs have of a job, recorded or not, and no retry can use.
struct Remains {
    std::vector<Oid> guarded;
    std::vector<Oid> shadows;
    std::vector<Oid> proofs;
    bool all = true; // nothing is kept for a retry
    bool empty() const { return guarded.empty() && shadows.empty() && proofs.empty(); }
};

Remains look_for_remains(const job::Job &job, const job::ControlTables::Leftovers &left) {
    const pg::PinnedSettings pinned;
    Remains remains;
    remains.all = left.kept.empty();
    const auto is_in = [](const std::vector<Oid> &list, Oid oid) {
        return std::find(list.begin(), list.end(), oid) != list.end();
    };
    for (const Oid shadow : left.shadows)
        if (engine::is_own_table(job.id, shadow))
            remains.shadows.push_back(shadow);
    for (const Oid table : engine::guarded(job.id))
        if (!is_in(left.kept, table) && !is_in(remains.shadows, table)) // a guard goes with its shadow
            remains.guarded.push_back(table);
    remains.proofs = engine::proofs_left(left.proofs);
    return remains;
}

Remains look_for_remains(const job::Job &job) {
    pg::Transaction transaction;
    job::ControlTables::Leftovers left;
    {
        job::ControlTables control;
        left = control.leftovers(job);
        if (!job.keep_old)
            for (const Oid table : control.old_tables(job.id))
                left.shadows.push_back(table);
    }
    Remains remains = look_for_remains(job, left);
    transaction.commit();
    return remains;
}

// Everything that lies around and is of no use any more. Returns what could not go.
std::string tidy_up(const job::Job &job) {
    const Remains found = look_for_remains(job);
    Tidying tidying;
    tidying.attempt([&] { drop_guards(job, found.guarded); });
    tidying.attempt([&] { drop_proofs(job, found.proofs); });
    for (const Oid table : found.shadows)
        tidying.attempt([&] { drop_table(job, table); });
    tidying.attempt([&] {
        pg::Transaction transaction;
        if (found.all)
            engine::drop_empty_schemas(job.id);
        transaction.commit();
    });
    if (tidying.left().empty() && !look_for_remains(job).empty())
        pg::raise(pg::sqlcode::kObjectInUse, "something of the job came back while it was tidied up");
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.forget_leftovers(job);
    }
    transaction.commit();
    return tidying.left();
}

// The job says for what it waits, and comes back.
[[noreturn]] void wait_to_tidy(const job::Job &job, const Blocked &what) {
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.tidying_waits(job.id, what.table, "tidying up: " + what.holders);
    }
    transaction.commit();
    pg::raise(pg::sqlcode::kLockNotAvailable, fmt::format("could not tidy up: {}", what.holders));
}

} // namespace

void end_job(const job::Job &job) {
    std::string left;
    std::optional<Blocked> in_the_way;
    try {
        left = tidy_up(job);
    } catch (const Blocked &what) {
        in_the_way = what;
    }
    if (in_the_way)
        wait_to_tidy(job, *in_the_way);
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
            control.end_job(job, control.census(job.id).failed > 0 ? core::JobEvent::fail
                                                                   : core::JobEvent::finish);
        else
            control.mark_tidied(job);
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} {}", job.id,
                         job.state == core::JobState::paused ? "is paused" : "has ended"));
}

} // namespace partbackfill::worker
