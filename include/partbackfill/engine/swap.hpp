// The exchange of a live partition and its shadow, whatever the method.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"
#include "partbackfill/engine/polite_locks.hpp"

namespace partbackfill::engine {

struct SwapRequest {
    std::int64_t job = 0;
    int ordinal = 0;
    Oid target = kNoOid; // below which the live partition must still be
    Oid live = kNoOid;
    Oid shadow = kNoOid;
    Oid proof = kNoOid;      // the CHECK on a DEFAULT sibling
    std::string bound;       // FOR VALUES ... when the job began
    std::string constraint;  // the partition's own when the shadow was made, its ancestors' included
    std::string fingerprint; // of the live partition when the shadow was made
    std::chrono::milliseconds lock_timeout{0};
    // How long the moment is waited for at which others will let the locks go in time.
    // No one waits for it meanwhile but who controls the job.
    std::chrono::milliseconds moment{0};
    // Whether rows were written to the live partition that the shadow lacks; asked
    // before the locks, to spare them, and under them. Empty when nobody watches.
    std::function<bool()> lacks_writes;
    // Whether the shadow is as its build left it, rows and definition; its owner may
    // do with it what he likes, and so may the keys that it refers to. Asked before
    // the locks and under them.
    std::function<bool()> untouched;
    // The proofs, of whatever job, that are on the live partition: it is a DEFAULT.
    std::function<std::vector<Oid>()> proofs;
};

enum class Preparation {
    complete,
    again,      // a step is done, to be committed; another follows
    locked_out, // a lock was not had in time; the transaction must be aborted
    touched,    // the shadow is not as it was built; the transaction must be aborted
};

// One way to exchange them.
struct SwapMethod {
    // Raises unless the current role may do to the tables what the exchange does. Asked by
    // every step, before a lock is taken and under it.
    void (*check_rights)(const Leaf &leaf);
    // Makes the shadow, empty; its OID. ACCESS SHARE on the live partition.
    Oid (*create_shadow)(std::int64_t job, const Leaf &leaf, const std::vector<Oid> &proofs);
    // Once it is loaded and its indexes are built, in the same transaction and
    // under the snapshot of the load.
    void (*finish_shadow)(std::int64_t job, const Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs);
    // Whether what makes the exchange quick can be prepared before the shadow is
    // filled, and must be when writers are held from the build to the swap.
    bool prepares_early;
    // The next step of that, a transaction each; `request.proof` may change. Puts
    // the locks that it asked for into `locks`.
    Preparation (*prepare)(SwapRequest &request, const Leaf &leaf, std::vector<TableLock> &locks);
    // Whether all of that is in place; asked before the locks and under them.
    bool (*prepared)(const SwapRequest &request, const Leaf &leaf);
    // Raises when the exchange may not be made; asked before the locks and under them.
    void (*check)(const SwapRequest &request, const Leaf &leaf);
    // What it must hold, in the order in which the locks are taken.
    std::vector<TableLock> (*tables_to_lock)(const Leaf &leaf, Oid shadow);
    // The exchange itself, once all are held, in the same transaction. Returns
    // the OID of the table that holds the old rows from now on.
    Oid (*exchange)(const SwapRequest &request, const Leaf &leaf);
    // What keeps writers out of the partition from a build's snapshot to its swap
    // in the same transaction, and can then be had exclusively too: a writer who
    // waits must hold nothing that the exchange needs.
    std::vector<TableLock> (*locks_against_writers)(const Leaf &leaf);
    // Whether that is done of its own accord for a partition that is written to
    // during each of its builds; else it fails.
    bool holds_writers_at_last;
};

// attach: DETACH, SET SCHEMA twice, ATTACH; documented DDL only.
extern const SwapMethod kAttach;
// storage: the two tables exchange their files, as CLUSTER does.
extern const SwapMethod kStorage;

// The method of that name; the two names.
const SwapMethod &swap_method(const std::string &name);
inline constexpr const char *kAttachName = "attach";
inline constexpr const char *kStorageName = "storage";

enum class SwapOutcome {
    swapped,
    locked_out, // a lock was not had in time; the transaction must be aborted
    unprepared, // the method has to prepare first; the transaction must be aborted
    written,    // it was written to after the build's snapshot; the transaction must be aborted
    touched,    // the shadow is not as it was built; the transaction must be aborted
    changed,    // its definition is not what it was; the transaction must be aborted
    gone,       // the live partition is no partition any more, or has other bounds
};

struct SwapResult {
    SwapOutcome outcome = SwapOutcome::locked_out;
    Oid old_table = kNoOid;
    std::chrono::microseconds lock_wait{0};            // until the last lock was had, or given up
    std::chrono::steady_clock::time_point locked_at{}; // when readers had to wait
    std::vector<TableLock> locks;                      // what was asked for
};

// Locks, looks again whether the partition is still the one that was rebuilt,
// exchanges. Needs a PinnedSettings scope, and the caller's commit or abort.
SwapResult swap(const SwapMethod &method, const SwapRequest &request);

// Runs DDL that may have to wait for a lock no longer than `limit`; false when
// others were in the way, and then the transaction must be aborted.
bool run_bounded(const std::vector<std::string> &statements, std::chrono::milliseconds limit);

} // namespace partbackfill::engine
