#include "partbackfill/worker/cleanup.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/job/job_end.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/leftovers.hpp"
#include "partbackfill/job/revert_table.hpp"
#include "partbackfill/job/write_table.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/shadow/default_sibling.hpp"
#include "partbackfill/shadow/foreign_keys.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/shadow/own_tables.hpp"
#include "partbackfill/worker/drop.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

void tidy_partition(const job::Job &job, const job::Partition &partition) {
    {
        pg::Transaction transaction;
        {
            const pg::AsExtensionOwner owner;
            job::WriteTable(owner).forget_writes(partition, job.keep_old);
        }
        transaction.commit();
    }
    if (job.keep_old)
        return;
    if (job.on_write == job::OnWrite::catch_up)
        drop_log(job, partition.live); // or the end of the job does
    pg::Transaction transaction;
    if (!drop_politely(job, partition.old))
        return; // sessions read it by its name: the end of the job tries again
    {
        const pg::AsExtensionOwner owner;
        job::LeftoverRows(owner).forget_old(job.id, partition.old);
    }
    injection_point(InjectionPoint::tidying, partition);
    transaction.commit();
}

namespace {

// A leftover could not be dropped, because others hold locks on the table.
struct Blocked {
    Oid table;
    std::string holders;
};

[[noreturn]] void raise_blocked(Oid table, const std::vector<locks::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    throw Blocked{table, locks::lock_holders(locks)};
}

// CHECKs on DEFAULT partitions, one table at a time: no lock is held while another is waited for.
void drop_proofs(const job::Job &job, const std::vector<Oid> &proofs) {
    std::vector<Oid> tables;
    {
        pg::Transaction transaction;
        {
            const pg::PinnedSettings pinned;
            tables = shadow::tables_of_proofs(proofs);
        }
        transaction.commit();
    }
    for (const Oid table : tables) {
        pg::Transaction transaction;
        const std::vector<locks::TableLock> locks{{table, locks::LockMode::access_exclusive}};
        if (!locks::lock_politely(locks, tidying_limit(job, table)))
            raise_blocked(table, locks);
        {
            const pg::PinnedSettings pinned;
            for (const Oid proof : proofs)
                shadow::drop_proof(proof, table);
        }
        transaction.commit();
    }
}

// A leftover that cannot be dropped, because other objects depend on it, stays; its error is kept for
// the job, and the other leftovers are dropped. A lock that was not granted and a cancel are thrown.
class Tidying {
public:
    template <class F>
    void attempt(F &&work) {
        try {
            work();
        } catch (const pg::Error &error) {
            if (locks::is_contention(error) || error.code() == pg::sqlcode::kQueryCanceled)
                throw;
            if (error_.empty())
                error_ = job::kCouldNotTidyUp + error.fields().message;
        }
    }
    const std::string &error() const noexcept { return error_; }

private:
    std::string error_;
};

// In a transaction of its own: no lock is held while another is waited for.
void drop_table(const job::Job &job, Oid table) {
    pg::Transaction transaction;
    if (!drop_politely(job, table))
        raise_blocked(table, locks_to_drop(job, table));
    transaction.commit();
}

void drop_captures(const job::Job &job, const std::vector<Oid> &tables) {
    for (const Oid table : tables) {
        if (drop_capture(job, table))
            continue;
        pg::Transaction transaction;
        raise_blocked(table, {{table, locks::LockMode::share_row_exclusive}});
    }
}

// Foreign keys of a kept table, which would keep others from deleting what they refer to.
void drop_keys(const job::Job &job, Oid table) {
    pg::Transaction transaction;
    const auto locks = locks_to_drop(job, table);
    if (!locks::lock_politely(locks, tidying_limit(job, table)))
        raise_blocked(table, locks);
    {
        const pg::PinnedSettings pinned;
        shadow::drop_foreign_keys(table);
    }
    transaction.commit();
}

// Of partitions whose write capture is gone.
void drop_logs(const job::Job &job, const std::vector<Oid> &tables) {
    for (const Oid table : tables) {
        const Oid log = drop_log(job, table);
        if (log == kNoOid)
            continue;
        pg::Transaction transaction;
        raise_blocked(log, {{log, locks::LockMode::access_exclusive}});
    }
}

// The leftovers that the catalogs still have, recorded or not, and no retry can use.
struct Existing {
    std::vector<Oid> captured;
    std::vector<Oid> logged; // have a key log
    std::vector<Oid> shadows;
    std::vector<Oid> proofs;
    std::vector<Oid> referring; // kept tables that have foreign keys
    bool all = true;            // nothing is kept for a retry
    bool empty() const {
        return captured.empty() && logged.empty() && shadows.empty() && proofs.empty() && referring.empty();
    }
};

Existing find_existing(const job::Job &job, const job::Leftovers &left) {
    const pg::PinnedSettings pinned;
    Existing existing;
    existing.all = left.kept.empty();
    const auto is_in = [](const std::vector<Oid> &list, Oid oid) {
        return std::find(list.begin(), list.end(), oid) != list.end();
    };
    for (const Oid shadow : left.shadows)
        if (shadow::is_own_table(job.id, shadow))
            existing.shadows.push_back(shadow);
    for (const Oid table : writes::captured_tables(job.id))
        if (!is_in(left.kept, table) && !is_in(left.watched_live, table) && !is_in(left.watched_old, table) &&
            !is_in(existing.shadows, table)) // a write capture goes with its shadow
            existing.captured.push_back(table);
    for (const Oid table : shadow::logged_tables(job.id))
        if (!is_in(left.kept, table) && !is_in(left.watched_live, table))
            existing.logged.push_back(table);
    // A revert that was given up may have left some.
    for (const Oid table : left.watched_old)
        if (!shadow::tables_referred_to(table).empty())
            existing.referring.push_back(table);
    existing.proofs = shadow::proofs_left(left.proofs);
    return existing;
}

Existing find_existing(const job::Job &job) {
    pg::Transaction transaction;
    job::Leftovers left;
    {
        const pg::AsExtensionOwner owner;
        left = job::LeftoverRows(owner).find(job);
        if (!job.keep_old)
            for (const Oid table : job::LeftoverRows(owner).old_tables(job.id))
                left.shadows.push_back(table);
    }
    Existing existing = find_existing(job, left);
    transaction.commit();
    return existing;
}

// Drops the leftovers. Returns the error that kept one of them, or an empty text.
std::string tidy_up(const job::Job &job) {
    const Existing found = find_existing(job);
    Tidying tidying;
    tidying.attempt([&] { drop_captures(job, found.captured); });
    tidying.attempt([&] { drop_logs(job, found.logged); });
    tidying.attempt([&] { drop_proofs(job, found.proofs); });
    for (const Oid table : found.shadows)
        tidying.attempt([&] { drop_table(job, table); });
    for (const Oid table : found.referring)
        tidying.attempt([&] { drop_keys(job, table); });
    tidying.attempt([&] {
        pg::Transaction transaction;
        if (found.all)
            shadow::drop_empty_schemas(job.id);
        transaction.commit();
    });
    if (tidying.error().empty() && !find_existing(job).empty())
        pg::raise(pg::sqlcode::kObjectInUse, "something of the job came back while it was tidied up");
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::LeftoverRows(owner).forget(job);
    }
    transaction.commit();
    return tidying.error();
}

// Shows what the tidying waits for; the worker comes back to it.
[[noreturn]] void wait_to_tidy(const job::Job &job, const Blocked &what) {
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::LeftoverRows(owner).tidying_waits(job.id, what.table, "tidying up: " + what.holders);
    }
    transaction.commit();
    pg::raise(pg::sqlcode::kLockNotAvailable, fmt::format("could not tidy up: {}", what.holders));
}

// The last change of the job's row, and what the log says of it.
const char *rest_job(const pg::AsExtensionOwner &owner, const job::Job &job) {
    if (job.state != core::JobState::running) {
        job::JobEnd(owner).mark_tidied(job);
        return job.state == core::JobState::paused ? "is paused" : "has ended";
    }
    const job::JobTable table(owner);
    if (job.reverts_from)
        job::JobEnd(owner).end(job, job::RevertTable(owner).end_of(job));
    else if (table.has_partition(job.id, core::PartitionState::failed))
        job::JobEnd(owner).end(job, core::JobEvent::fail);
    else if (table.has_partition(job.id, core::PartitionState::ready)) {
        job::JobEnd(owner).rest_ready(job);
        return "is ready";
    } else if (table.has_partition(job.id, core::PartitionState::done) ||
               table.has_partition(job.id, core::PartitionState::reverted))
        job::JobEnd(owner).end(job, core::JobEvent::finish);
    else {
        job::JobEnd(owner).set_error(job.id, "every partition was skipped");
        job::JobEnd(owner).end(job, core::JobEvent::fail);
    }
    return "has ended";
}

} // namespace

void end_job(const job::Job &job) {
    std::string kept;
    std::optional<Blocked> in_the_way;
    try {
        kept = tidy_up(job);
    } catch (const Blocked &what) {
        in_the_way = what;
    }
    if (in_the_way)
        wait_to_tidy(job, *in_the_way);
    if (!kept.empty())
        process::log_warning(job.id, kept);
    injection_point(InjectionPoint::ending);
    const char *rest = "";
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::JobTable(owner).lock(job.id);
        // A retry may have queued a partition meanwhile: the job goes on.
        if (job.state == core::JobState::running && job::JobTable(owner).claimable_partitions(job.id, 1) > 0)
            return;
        if (!kept.empty())
            job::JobEnd(owner).set_error(job.id, kept);
        rest = rest_job(owner, job);
    }
    transaction.commit();
    process::log_line(job.id, rest);
}

} // namespace partbackfill::worker
