// Locks on tables that others can feel, taken politely.
//
// Whoever stands in a lock's queue holds up all that come behind and conflict
// with him. So it is looked before it is queued: while a transaction in the way is
// older than we would wait, it will hardly end in that time, and we do not queue
// at all. Otherwise we queue for one lock, for no longer than the limit, holding
// no other meanwhile, so that no deadlock can come of it; the rest must be free at
// once. Whoever fails gives back everything and comes again later. Nobody is
// canceled but an autovacuum, as the server itself would do a second later.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::engine {

enum class LockMode { access_share, share_row_exclusive, access_exclusive };

struct TableLock {
    Oid table = kNoOid;
    LockMode mode = LockMode::access_exclusive;
};

// The locks, to the end of the (sub)transaction; the first is the one to queue
// for, which many share. `limit` 0 does not queue. False when one was not had:
// the (sub)transaction must then be rolled back, which gives back the others.
// `first` becomes the time at which the first of them was had.
bool lock_politely(const std::vector<TableLock> &locks, std::chrono::milliseconds limit,
                   std::chrono::steady_clock::time_point *first = nullptr);

// The same, ACCESS EXCLUSIVE on each.
std::vector<TableLock> exclusively(const std::vector<Oid> &tables);
bool lock_exclusively(const std::vector<Oid> &tables, std::chrono::milliseconds limit,
                      std::chrono::steady_clock::time_point *first);

// Whether the error says that others are in the way, for now.
bool is_contention(const pg::Error &error);

// For what follows once the locks are had: statements meet locks that cannot all
// be asked for beforehand, of indexes, or the row of a catalog that somebody has
// changed and not committed. Within its life none is waited for longer than the
// limit, since others wait for us meanwhile; 10 ms at least.
class BoundedWaits : public pg::SettingsScope {
public:
    explicit BoundedWaits(std::chrono::milliseconds limit);
};

// Who is in the way of those locks, for people: "lock (held by 123, prepared
// transaction "x")"; "lock" when nobody is any more.
std::string lock_holders(const std::vector<TableLock> &locks);

} // namespace partbackfill::engine
