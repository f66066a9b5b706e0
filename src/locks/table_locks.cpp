#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/twophase.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
}

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/locks/lock_waits.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/lock_holders.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/session_settings.hpp"
#include "partbackfill/pg/settings_scope.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::locks {

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

constexpr Milliseconds kShortestWait{10};
constexpr Milliseconds kPoll{1};
constexpr int kPollsPerLook = 20;
constexpr Milliseconds kBetweenLooks{4};

LOCKMODE server_mode(LockMode mode) {
    switch (mode) {
    case LockMode::access_share:
        return AccessShareLock;
    case LockMode::row_share:
        return RowShareLock;
    case LockMode::share_update_exclusive:
        return ShareUpdateExclusiveLock;
    case LockMode::share_row_exclusive:
        return ShareRowExclusiveLock;
    case LockMode::exclusive:
        return ExclusiveLock;
    case LockMode::access_exclusive:
        return AccessExclusiveLock;
    }
    return NoLock;
}

// The holder of a conflicting lock: a process, or a prepared transaction, which has none.
struct Holder {
    int pid;
    int leader; // of a parallel worker; else the process itself
    TransactionId prepared;
    bool autovacuum;
};

Holder holder_of(VirtualTransactionId transaction) {
    const PGPROC *process = pg::process_of(transaction);
    if (process != nullptr)
        return {process->pid,
                process->lockGroupLeader != nullptr ? process->lockGroupLeader->pid : process->pid,
                InvalidTransactionId,
                (process->statusFlags & PROC_IS_AUTOVACUUM) != 0 &&
                    (process->statusFlags & PROC_VACUUM_FOR_WRAPAROUND) == 0};
    bool more = false;
    return {0, 0, TwoPhaseGetXidByVirtualXID(transaction, &more), false};
}

void add_holders(Oid table, LOCKMODE mode, std::vector<Holder> &all) {
    struct Found {
        int count;
        Holder *holders;
    };
    const Found found = pg::guard([&] {
        LOCKTAG tag;
        SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
        Found result{0, nullptr};
        VirtualTransactionId *transactions = GetLockConflicts(&tag, mode, &result.count);
        result.holders = static_cast<Holder *>(palloc(sizeof(Holder) * static_cast<Size>(result.count + 1)));
        int kept = 0;
        for (int i = 0; i < result.count; i++) {
            const Holder holder = holder_of(transactions[i]);
            if (holder.pid != 0 || TransactionIdIsValid(holder.prepared)) // else it has just ended
                result.holders[kept++] = holder;
        }
        result.count = kept;
        pfree(transactions);
        return result;
    });
    all.insert(all.end(), found.holders, found.holders + found.count);
    pg::guard([&] { pfree(found.holders); });
}

std::vector<Holder> in_the_way(const std::vector<TableLock> &locks) {
    std::vector<Holder> holders;
    for (const TableLock &lock : locks)
        add_holders(lock.table, server_mode(lock.mode), holders);
    return holders;
}

void forget_autovacuums(std::vector<Holder> &holders) {
    std::erase_if(holders, [](const Holder &holder) { return holder.autovacuum; });
}

// A prepared transaction ends when a person ends it.
bool any_older_than(const std::vector<Holder> &holders, Milliseconds age) {
    std::vector<Oid> pids; // the numeric array type that parameters have
    for (const Holder &holder : holders) {
        if (holder.pid == 0)
            return true;
        pids.push_back(static_cast<Oid>(holder.pid));
    }
    if (pids.empty())
        return false;
    // Times of other roles' transactions are shown to privileged roles only.
    const pg::AsExtensionOwner as_owner;
    pg::execute("SELECT pg_stat_clear_snapshot()");
    return pg::query_row(R"SQL(
        SELECT EXISTS (SELECT FROM pg_stat_activity AS a
                       WHERE a.pid::oid = ANY ($1) AND a.xact_start <= clock_timestamp() - make_interval(secs => $2))
    )SQL",
                         {pids, std::chrono::duration<double>(age).count()})
        .boolean(0);
}

// Half of the time after which other sessions look for a deadlock, in which the session that
// looks is canceled.
Milliseconds longest_queueing() {
    const Milliseconds others{std::stol(pg::configured_value("deadlock_timeout"))};
    return std::max(others / 2, kShortestWait);
}

enum class QueueResult { granted, too_long, deadlock };

// Queues once, in a subtransaction, so that the caller can queue again.
QueueResult queue_for_lock(Oid table, LOCKMODE mode, Milliseconds limit) {
    pg::Subtransaction subtransaction;
    try {
        pg::SettingsScope scope;
        scope.set("lock_timeout", std::to_string(limit.count()).c_str());
        scope.force("log_lock_waits", "off"); // our short deadlock_timeout would have each wait logged
        pg::guard([&] { LockRelationOid(table, mode); });
    } catch (const pg::Error &error) {
        if (!is_contention(error))
            throw;
        return error.code() == pg::sqlcode::kLockNotAvailable ? QueueResult::too_long : QueueResult::deadlock;
    }
    subtransaction.commit();
    return QueueResult::granted;
}

// Whether a holder waits for a lock of this process. It would look for a deadlock when this
// process has hardly begun to wait, and be the victim.
bool one_waits_for_us(const std::vector<Holder> &holders) {
    std::vector<int> pids;
    for (const Holder &holder : holders)
        if (holder.pid != 0)
            pids.push_back(holder.pid);
    return locks::one_waits_for_us(pids);
}

bool holder_waits_for_us(Oid table, LOCKMODE mode) {
    std::vector<Holder> holders;
    add_holders(table, mode, holders);
    return one_waits_for_us(holders);
}

// Whether this process has a lock on the table already.
bool have_one(Oid table) {
    return pg::guard([&] {
        LOCKTAG tag;
        SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
        for (LOCKMODE mode = AccessShareLock; mode <= AccessExclusiveLock; mode++)
            if (pg::lock_held_by_me(&tag, mode))
                return true;
        return false;
    });
}

// Whether a session waits for a row that this transaction has locked: that session may be
// about to pause or cancel the job, and must not wait until other sessions release their locks.
bool row_is_waited_for() {
    return pg::guard([] {
        const TransactionId own = GetCurrentTransactionIdIfAny();
        if (!TransactionIdIsValid(own))
            return false;
        LOCKTAG tag;
        SET_LOCKTAG_TRANSACTION(tag, own);
        return LockHasWaiters(&tag, ExclusiveLock, false);
    });
}

// Asks again and again without standing in the queue, for a table on which this process has a
// lock already. In a queue it would harm another session: the server cancels at once a session
// that asks for a lock that ours excludes, while we wait for one that it has on the same table.
// When no holder is in the way, one queued request passes the sessions that wait for our lock.
bool poll_until(Oid table, LOCKMODE mode, Clock::time_point deadline) {
    for (int polls = 1;; polls++) {
        std::vector<Holder> holders;
        add_holders(table, mode, holders);
        if (holders.empty() && queue_for_lock(table, mode, kPoll) == QueueResult::granted)
            return true;
        if (Clock::now() >= deadline || row_is_waited_for() ||
            (polls % kPollsPerLook == 0 && holder_waits_for_us(table, mode)))
            return false;
        pg::sleep(kPoll, pg::Wait::backoff);
    }
}

// False when the lock was not granted within the time that is left.
bool lock_until(Oid table, LOCKMODE mode, Clock::time_point deadline) {
    if (have_one(table))
        return poll_until(table, mode, deadline);
    if (pg::guard([&] { return ConditionalLockRelationOid(table, mode); }))
        return true;
    for (;;) {
        const auto left = std::chrono::duration_cast<Milliseconds>(deadline - Clock::now());
        if (left <= Milliseconds::zero() || row_is_waited_for() || holder_waits_for_us(table, mode))
            return false;
        const QueueResult result = queue_for_lock(table, mode, std::min(left, longest_queueing()));
        if (result != QueueResult::too_long)
            return result == QueueResult::granted;
    }
}

// An autovacuum gives way to a session that waits for it for deadlock_timeout. We ask for
// SHARE UPDATE EXCLUSIVE, the mode that the autovacuum holds: readers and writers pass us while
// we wait. The lock is given back at once: waiting for the next table with it could be a
// deadlock.
bool evict_autovacuum(const std::vector<TableLock> &locks, Clock::time_point deadline) {
    for (const TableLock &lock : locks) {
        const auto holders = in_the_way({lock});
        if (std::none_of(holders.begin(), holders.end(),
                         [](const Holder &holder) { return holder.autovacuum; }))
            continue;
        if (!lock_until(lock.table, ShareUpdateExclusiveLock, deadline))
            return false;
        pg::guard([&] { UnlockRelationOid(lock.table, ShareUpdateExclusiveLock); });
    }
    return true;
}

// Whether the locks may be had in time, as far as can be seen without queueing.
bool worth_queueing(const std::vector<TableLock> &locks, Milliseconds limit) {
    return evict_autovacuum(locks, Clock::now() + limit) && !any_older_than(in_the_way(locks), limit);
}

std::string name_of(const Holder &holder) {
    if (holder.pid != 0)
        return std::to_string(holder.pid);
    const pg::Result gid =
        pg::query("SELECT p.gid FROM pg_prepared_xacts AS p WHERE p.transaction::text = $1",
                  {std::to_string(holder.prepared)});
    return gid.empty() ? "a prepared transaction"
                       : fmt::format("prepared transaction \"{}\"", gid.rows.front().text(0));
}

} // namespace

bool holders_wait_for_us(const std::vector<TableLock> &locks) {
    return one_waits_for_us(in_the_way(locks));
}

bool held_by_others(const std::vector<TableLock> &locks, const std::vector<int> &ours) {
    const auto holders = in_the_way(locks);
    return std::any_of(holders.begin(), holders.end(), [&](const Holder &holder) {
        return std::find(ours.begin(), ours.end(), holder.leader) == ours.end();
    });
}

// Some DDL, such as GRANT, locks no table: a session that changes the same row of the catalog
// after waiting for it gets an internal error, which is never translated.
bool is_contention(const pg::Error &error) {
    return error.code() == pg::sqlcode::kLockNotAvailable || error.code() == pg::sqlcode::kDeadlockDetected ||
           (error.code() == pg::sqlcode::kInternal &&
            (error.fields().message == "tuple concurrently updated" ||
             error.fields().message == "tuple concurrently deleted"));
}

BoundedWaits::BoundedWaits(Milliseconds limit) {
    set("lock_timeout", std::to_string(std::clamp(limit, kShortestWait, longest_queueing()).count()).c_str());
    force("log_lock_waits", "off");
}

FirstVictim::FirstVictim() {
    force("deadlock_timeout", kDeadlockTimeout);
    force("log_lock_waits", "off");
}

std::vector<TableLock> share_ancestors(Oid table) {
    std::vector<TableLock> locks;
    for (const pg::Row &row : pg::query(R"SQL(
        SELECT a.relid::oid::bigint
        FROM pg_partition_ancestors($1) WITH ORDINALITY AS a (relid, height)
        WHERE a.relid <> $1
        ORDER BY a.height DESC
    )SQL",
                                        {table})
                                  .rows)
        locks.push_back({row.oid(0), LockMode::access_share});
    return locks;
}

bool none_in_the_way(const std::vector<TableLock> &locks) {
    return std::all_of(locks.begin(), locks.end(), [](const TableLock &lock) {
        std::vector<Holder> holders = in_the_way({lock});
        forget_autovacuums(holders);
        return holders.empty();
    });
}

bool none_older_than(const std::vector<TableLock> &locks, Milliseconds limit) {
    std::vector<Holder> holders = in_the_way(locks);
    forget_autovacuums(holders);
    return !any_older_than(holders, limit);
}

bool wait_for_moment(const std::vector<TableLock> &locks, Milliseconds limit, Milliseconds patience) {
    const auto end = Clock::now() + patience;
    while (!worth_queueing(locks, limit)) {
        if (Clock::now() >= end || row_is_waited_for())
            return false;
        pg::sleep(kBetweenLooks, pg::Wait::backoff);
    }
    return true;
}

bool lock_politely(const std::vector<TableLock> &locks, Milliseconds limit, Clock::time_point *exclusive) {
    const auto deadline = Clock::now() + limit;
    if (!worth_queueing(locks, limit))
        return false;
    bool felt = false;
    for (const TableLock &lock : locks) {
        if (!lock_until(lock.table, server_mode(lock.mode), deadline))
            return false;
        if (exclusive != nullptr && !felt && lock.mode == LockMode::access_exclusive) {
            felt = true;
            *exclusive = Clock::now();
        }
    }
    return true;
}

std::string lock_holders(const std::vector<TableLock> &locks) {
    std::vector<std::string> names;
    for (const Holder &holder : in_the_way(locks)) {
        const std::string name = name_of(holder);
        if (std::find(names.begin(), names.end(), name) == names.end())
            names.push_back(name);
    }
    return names.empty() ? kFreeLock : fmt::format("lock (held by {})", fmt::join(names, ", "));
}

} // namespace partbackfill::locks
