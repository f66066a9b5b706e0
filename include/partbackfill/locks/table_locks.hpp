// Locks on tables that others can feel, taken politely.
//
// A session in a lock's queue holds up all conflicting sessions behind it. So a worker looks
// before it queues: while a transaction in the way is older than the worker would wait, that
// transaction will hardly end in time, and the worker does not queue at all. Otherwise the
// worker queues, for no longer than the limit for all locks together. A worker that fails
// gives back all locks and comes again later. Only an autovacuum is canceled for it, as the
// server itself would do a second later.
//
// In a deadlock the worker gives way: it does not begin to wait for a session that waits for
// it, it looks for a deadlock after kDeadlockTimeout, and it leaves a queue and comes back
// before other sessions look (the server's deadlock_timeout). It does not queue for a
// stronger lock on a table on which it has a lock already.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::locks {

enum class LockMode {
    access_share,
    row_share,
    share_update_exclusive,
    share_row_exclusive,
    exclusive,
    access_exclusive
};

// deadlock_timeout of each session that takes locks in this way.
inline constexpr const char *kDeadlockTimeout = "10 ms";

struct TableLock {
    Oid table = kNoOid;
    LockMode mode = LockMode::access_exclusive;
    bool operator==(const TableLock &) const = default;
};

// ACCESS SHARE on the ancestors of a table in its partition tree, the root first: the order
// in which the server's own commands lock a tree.
std::vector<TableLock> share_ancestors(Oid table);

// Takes the locks in their order, to the end of the (sub)transaction. `limit` 0 does not
// queue. False when a lock was not granted: the (sub)transaction must then be rolled back,
// which gives back the other locks. `exclusive` becomes the time at which the first ACCESS
// EXCLUSIVE lock was granted.
bool lock_politely(const std::vector<TableLock> &locks, std::chrono::milliseconds limit,
                   std::chrono::steady_clock::time_point *exclusive = nullptr);

// Whether no session but an autovacuum has a conflicting lock. Runs no query and needs no
// transaction.
bool none_in_the_way(const std::vector<TableLock> &locks);

// Whether no transaction but an autovacuum's that has a conflicting lock is older than `limit`.
bool none_older_than(const std::vector<TableLock> &locks, std::chrono::milliseconds limit);

// Waits for up to `patience`, without queueing, until lock_politely may succeed as far as can be
// seen. Evicts an autovacuum that is in the way. False when that did not come true, or when a
// session waits for a row that this transaction has locked.
bool wait_for_moment(const std::vector<TableLock> &locks, std::chrono::milliseconds limit,
                     std::chrono::milliseconds patience);

// Whether a session with a conflicting lock waits for a lock of this one, directly or through
// other sessions: the locks do not come free then until this session gives up.
bool holders_wait_for_us(const std::vector<TableLock> &locks);

// Whether a session with a conflicting lock is none of the given processes, nor a parallel worker of one.
bool held_by_others(const std::vector<TableLock> &locks, const std::vector<int> &ours);

// Whether the error says that other sessions were in the way, so that the work may succeed
// when it is tried again.
bool is_contention(const pg::Error &error);

// Bounds each wait for a lock within the object's life by the limit, at least by 10 ms, in
// which the session looks for a deadlock. For work under granted locks: statements meet locks
// that cannot all be asked for beforehand, on indexes or on a catalog row that an open
// transaction has changed, while other sessions wait for this one.
class BoundedWaits : public pg::SettingsScope {
public:
    explicit BoundedWaits(std::chrono::milliseconds limit);
};

// Runs the work under BoundedWaits. False when other sessions were in the way: the
// (sub)transaction must then be rolled back.
template <class Work>
bool try_bounded(std::chrono::milliseconds limit, Work &&work) {
    const BoundedWaits waits(limit);
    try {
        work();
        return true;
    } catch (const pg::Error &error) {
        if (!is_contention(error))
            throw;
        return false;
    }
}

// Makes this session the victim of a deadlock within the object's life. For functions that
// a session calls and that lock the tree and the source: the other side may be a migration.
class FirstVictim : public pg::SettingsScope {
public:
    FirstVictim();
};

// Names the holders of conflicting locks, for people: "lock (held by 123, prepared
// transaction "x")"; kFreeLock when there are none any more.
inline constexpr const char *kFreeLock = "lock";
std::string lock_holders(const std::vector<TableLock> &locks);

} // namespace partbackfill::locks
