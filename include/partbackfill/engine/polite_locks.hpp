// Locks on tables that others can feel, taken politely.
//
// Whoever stands in a lock's queue holds up all that come behind and conflict
// with him. So it is looked before it is queued: while a transaction in the way is
// older than we would wait, it will hardly end in that time, and we do not queue
// at all. Otherwise we queue, for no longer than the limit for all of the locks
// together. Whoever fails gives back everything and comes again later. Nobody is
// canceled but an autovacuum, as the server itself would do a second later.
//
// Should waiting end in a deadlock nevertheless, it is always we who give way: we
// do not begin to wait for somebody who waits for us, a worker looks for a deadlock
// after kDeadlockTimeout, and it does not stand in a queue for as long as others
// wait before they look (the server's deadlock_timeout), but leaves it and comes
// back. Where it has a lock already it does not queue for a stronger one at all.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::engine {

enum class LockMode {
    access_share,
    row_share,
    share_update_exclusive,
    share_row_exclusive,
    exclusive,
    access_exclusive
};

// For every session that takes locks so.
inline constexpr const char *kDeadlockTimeout = "10 ms";

struct TableLock {
    Oid table = kNoOid;
    LockMode mode = LockMode::access_exclusive;
    bool operator==(const TableLock &) const = default;
};

// ACCESS SHARE on what is above a table in its partition tree, the root first:
// whoever locks a tree does so in that order.
std::vector<TableLock> share_ancestors(Oid table);

// The locks in their order, to the end of the (sub)transaction. `limit` 0 does not
// queue. False when one was not had: the (sub)transaction must then be rolled
// back, which gives back the others. `exclusive` becomes the time at which the
// first ACCESS EXCLUSIVE lock was had.
bool lock_politely(const std::vector<TableLock> &locks, std::chrono::milliseconds limit,
                   std::chrono::steady_clock::time_point *exclusive = nullptr);

// Whether it may succeed, as far as can be seen without queueing.
bool worth_queueing(const std::vector<TableLock> &locks, std::chrono::milliseconds limit);

// The same without evicting an autovacuum, which is nobody here: whether no session has
// a lock that is in the way; whether no transaction that has one is older than `limit`.
// The first asks no query and needs no transaction.
bool nobody_in_the_way(const std::vector<TableLock> &locks);
bool none_is_older(const std::vector<TableLock> &locks, std::chrono::milliseconds limit);

// Waits for up to `patience`, without queueing, until it is worth to queue.
bool wait_for_moment(const std::vector<TableLock> &locks, std::chrono::milliseconds limit,
                     std::chrono::milliseconds patience);

// Whether a session that is in the way of those locks waits for a lock of this one,
// directly or through others: then they do not come free until this one gives up.
bool holders_wait_for_us(const std::vector<TableLock> &locks);

// Whether the error says that others are in the way: it may pass when tried again.
bool is_contention(const pg::Error &error);

// For what follows once the locks are had: statements meet locks that cannot all
// be asked for beforehand, of indexes, or the row of a catalog that somebody has
// changed and not committed. Within its life none is waited for longer than the
// limit, since others wait for us meanwhile; 10 ms at least, to look for a deadlock.
class BoundedWaits : public pg::SettingsScope {
public:
    explicit BoundedWaits(std::chrono::milliseconds limit);
};

// For a function that a session calls and that locks the tree and the source in its
// turn: should that be a deadlock with somebody's migration, it is the one to be canceled.
class FirstVictim : public pg::SettingsScope {
public:
    FirstVictim();
};

// Who is in the way of those locks, for people: "lock (held by 123, prepared
// transaction "x")"; kFreeLock when nobody is any more.
inline constexpr const char *kFreeLock = "lock";
std::string lock_holders(const std::vector<TableLock> &locks);

} // namespace partbackfill::engine
