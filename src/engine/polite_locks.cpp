#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/twophase.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
}

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::engine {

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr Milliseconds kShortestWait{10};

LOCKMODE server_mode(LockMode mode) {
    switch (mode) {
    case LockMode::access_share:
        return AccessShareLock;
    case LockMode::share_row_exclusive:
        return ShareRowExclusiveLock;
    case LockMode::access_exclusive:
        return AccessExclusiveLock;
    }
    return NoLock;
}

// Somebody who holds a lock that is in the way: a process, or a prepared
// transaction, which has none.
struct Holder {
    int pid;
    TransactionId prepared;
    bool autovacuum;
};

Holder holder_of(VirtualTransactionId transaction) {
    const PGPROC *process = pg::process_of(transaction);
    if (process != nullptr)
        return {process->pid, InvalidTransactionId,
                (process->statusFlags & PROC_IS_AUTOVACUUM) != 0 &&
                    (process->statusFlags & PROC_VACUUM_FOR_WRAPAROUND) == 0};
    bool more = false;
    return {0, TwoPhaseGetXidByVirtualXID(transaction, &more), false};
}

void add_holders(const TableLock &lock, std::vector<Holder> &all) {
    struct Found {
        int count;
        Holder *holders;
    };
    const Found found = pg::guard([&] {
        LOCKTAG tag;
        SET_LOCKTAG_RELATION(tag, MyDatabaseId, lock.table);
        Found result{0, nullptr};
        const VirtualTransactionId *transactions = GetLockConflicts(&tag, server_mode(lock.mode), &result.count);
        result.holders = static_cast<Holder *>(palloc(sizeof(Holder) * static_cast<Size>(result.count + 1)));
        int kept = 0;
        for (int i = 0; i < result.count; i++) {
            const Holder holder = holder_of(transactions[i]);
            if (holder.pid != 0 || TransactionIdIsValid(holder.prepared)) // else it has just ended
                result.holders[kept++] = holder;
        }
        result.count = kept;
        return result;
    });
    all.insert(all.end(), found.holders, found.holders + found.count);
}

std::vector<Holder> in_the_way(const std::vector<TableLock> &locks) {
    std::vector<Holder> holders;
    for (const TableLock &lock : locks)
        add_holders(lock, holders);
    return holders;
}

// A prepared transaction ends when a person ends it.
bool one_is_older(const std::vector<Holder> &holders, Milliseconds age) {
    std::vector<Oid> pids; // a number as good as any
    for (const Holder &holder : holders) {
        if (holder.pid == 0)
            return true;
        pids.push_back(static_cast<Oid>(holder.pid));
    }
    if (pids.empty())
        return false;
    // Others' times are shown to the privileged only.
    const pg::AsExtensionOwner as_owner;
    pg::execute("SELECT pg_stat_clear_snapshot()");
    return pg::query_row(R"SQL(
        SELECT EXISTS (SELECT FROM pg_stat_activity AS a
                       WHERE a.pid::oid = ANY ($1) AND a.xact_start <= clock_timestamp() - make_interval(secs => $2))
    )SQL",
                         {pids, std::chrono::duration<double>(age).count()})
        .boolean(0);
}

// False when the lock was not granted within the time that is left.
bool lock_until(Oid table, LOCKMODE mode, Clock::time_point deadline) {
    if (pg::guard([&] { return ConditionalLockRelationOid(table, mode); }))
        return true;
    const auto left = std::chrono::duration_cast<Milliseconds>(deadline - Clock::now());
    if (left <= Milliseconds::zero())
        return false;
    try {
        pg::SettingsScope scope;
        scope.set("lock_timeout", std::to_string(left.count()).c_str());
        pg::guard([&] { LockRelationOid(table, mode); });
        return true;
    } catch (const pg::Error &error) {
        if (!is_contention(error))
            throw;
        return false;
    }
}

// An autovacuum gives way to whoever waits for it, but only once he has waited
// for deadlock_timeout, which is longer than we do. SHARE UPDATE EXCLUSIVE is what
// it holds itself: readers and writers pass us while we wait. The lock is given
// back at once: to wait for the next one holding it could be a deadlock.
bool evict_autovacuum(const std::vector<TableLock> &locks, Clock::time_point deadline) {
    for (const TableLock &lock : locks) {
        const auto holders = in_the_way({lock});
        if (std::none_of(holders.begin(), holders.end(), [](const Holder &holder) { return holder.autovacuum; }))
            continue;
        pg::SettingsScope scope;
        scope.force("deadlock_timeout", "10");
        if (!lock_until(lock.table, ShareUpdateExclusiveLock, deadline))
            return false;
        pg::guard([&] { UnlockRelationOid(lock.table, ShareUpdateExclusiveLock); });
    }
    return true;
}

std::string name_of(const Holder &holder) {
    if (holder.pid != 0)
        return std::to_string(holder.pid);
    const pg::Result gid = pg::query("SELECT p.gid FROM pg_prepared_xacts AS p WHERE p.transaction::text = $1",
                                     {std::to_string(holder.prepared)});
    return gid.empty() ? "a prepared transaction"
                       : fmt::format("prepared transaction \"{}\"", gid.rows.front().text(0));
}

} // namespace

bool is_contention(const pg::Error &error) {
    return error.code() == pg::sqlcode::kLockNotAvailable || error.code() == pg::sqlcode::kDeadlockDetected;
}

BoundedWaits::BoundedWaits(Milliseconds limit) {
    set("lock_timeout", std::to_string(std::max(limit, kShortestWait).count()).c_str());
}

bool lock_politely(const std::vector<TableLock> &locks, Milliseconds limit, Clock::time_point *first) {
    const auto deadline = Clock::now() + limit;
    if (!evict_autovacuum(locks, deadline) || one_is_older(in_the_way(locks), limit))
        return false;
    for (const TableLock &lock : locks) {
        const bool queues = &lock == &locks.front();
        if (!lock_until(lock.table, server_mode(lock.mode), queues ? deadline : Clock::time_point{}))
            return false;
        if (queues && first != nullptr)
            *first = Clock::now();
    }
    return true;
}

std::vector<TableLock> exclusively(const std::vector<Oid> &tables) {
    std::vector<TableLock> locks;
    locks.reserve(tables.size());
    for (const Oid table : tables)
        locks.push_back({table, LockMode::access_exclusive});
    return locks;
}

bool lock_exclusively(const std::vector<Oid> &tables, Milliseconds limit, Clock::time_point *first) {
    return lock_politely(exclusively(tables), limit, first);
}

std::string lock_holders(const std::vector<TableLock> &locks) {
    std::vector<std::string> names;
    for (const Holder &holder : in_the_way(locks)) {
        const std::string name = name_of(holder);
        if (std::find(names.begin(), names.end(), name) == names.end())
            names.push_back(name);
    }
    return names.empty() ? "lock" : fmt::format("lock (held by {})", fmt::join(names, ", "));
}

} // namespace partbackfill::engine
