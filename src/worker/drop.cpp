#include "partbackfill/worker/drop.hpp"

#include <algorithm>

#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/foreign_keys.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/shadow/own_tables.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

std::vector<locks::TableLock> locks_to_drop(const job::Job &job, Oid table) {
    const pg::PinnedSettings pinned;
    if (!shadow::is_own_table(job.id, table))
        return {};
    std::vector<locks::TableLock> locks;
    for (const Oid referred : shadow::tables_referred_to(table))
        locks.push_back({referred, locks::LockMode::share_row_exclusive});
    locks.push_back({table, locks::LockMode::access_exclusive});
    return locks;
}

// The owner chose lock_timeout for sessions that use the owner's tables, not for others.
job::Milliseconds tidying_limit(const job::Job &job, Oid table) {
    constexpr job::Milliseconds kMostForOthers{100};
    const auto owner = pg::owner_of(table);
    const bool is_own = job.owner == pg::current_role() && owner && pg::may_act_as(*owner);
    return is_own ? job.lock_timeout : std::min(job.lock_timeout, kMostForOthers);
}

bool drop_politely(const job::Job &job, Oid table) {
    shadow::check_may_drop_own(job.id, table);
    const auto limit = tidying_limit(job, table);
    const auto locks = locks_to_drop(job, table);
    pg::Subtransaction subtransaction; // its rollback gives back the locks
    if (!locks.empty() && !locks::lock_politely(locks, limit))
        return false;
    const bool dropped = locks::try_bounded(limit, [&] {
        if (locks.empty())
            shadow::drop_stray_statistics(job.id, table);
        else
            shadow::drop_own_table(job.id, table);
    });
    if (dropped)
        subtransaction.commit();
    return dropped;
}

bool drop_capture(const job::Job &job, Oid table) {
    pg::Transaction transaction;
    pg::execute("SET LOCAL synchronous_commit = local");
    {
        const pg::PinnedSettings pinned;
        if (!writes::has_write_capture(job.id, table))
            return true;
        if (!locks::lock_politely({{table, locks::LockMode::share_row_exclusive}}, tidying_limit(job, table)))
            return false;
        writes::drop_write_capture(job.id, table);
    }
    transaction.commit();
    return true;
}

Oid drop_log(const job::Job &job, Oid partition) {
    pg::Transaction transaction;
    {
        const pg::PinnedSettings pinned;
        const Oid log = shadow::key_log_of(job.id, partition);
        if (log == kNoOid)
            return kNoOid;
        if (!locks::lock_politely({{log, locks::LockMode::access_exclusive}}, tidying_limit(job, partition)))
            return log;
        shadow::drop_key_log(job.id, partition);
    }
    transaction.commit();
    return kNoOid;
}

} // namespace partbackfill::worker
