// What a swap method is, and the list of them. A method is one source file that defines a
// SwapMethod, declared at the end of this header and listed in method.cpp: no other code
// knows its name.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/swap/hazard.hpp"

namespace partbackfill::swap {

// One swap of one partition, as its job and its build describe it.
struct SwapRequest {
    std::int64_t job = 0;
    int ordinal = 0;
    Oid target = kNoOid;    // the live partition must still be below it
    std::int64_t shard = 0; // of Citus, that the target is: it must still be on this node; 0 when it is none
    Oid live = kNoOid;
    Oid shadow = kNoOid;
    Oid proof = kNoOid;            // the CHECK on a DEFAULT sibling
    std::string bound;             // FOR VALUES ... when the job began
    std::string constraint;        // of the partition and its ancestors, when the shadow was made
    std::string definition_digest; // of the live partition, when the shadow was made
    std::chrono::milliseconds lock_timeout{0};
    // Longest wait, without queueing, until other sessions will let the locks go within
    // lock_timeout. A session that controls the job ends it.
    std::chrono::milliseconds moment{0};
    // Whether the live partition has writes that the shadow lacks. Asked before the locks,
    // to spare them, and under them. Empty when writes are ignored.
    std::function<bool()> lacks_writes;
    // Whether the rows and the definition of the shadow are as the build left them: the
    // owner of the shadow may change it, and so may a foreign key with a referential
    // action. Asked before the locks and under them.
    std::function<bool()> shadow_unchanged;
    // Proofs of all jobs on the live partition, when that is a DEFAULT partition.
    std::function<std::vector<Oid>()> proofs;
    // Whether the old rows are kept, so that both tables stay captured after the exchange; whether keys
    // of written rows are logged then; and whether the log has entries that say nothing about the writes
    // since the exchange.
    bool keeps_old = false;
    bool logs_keys = false;
    bool empties_log = false;
    Oid discarded = kNoOid; // a kept table of which the shadow has the rows: dropped by the swap
};

enum class Preparation {
    complete,
    again,             // one step is done, to be committed; another follows
    locks_not_granted, // in time; the transaction must be aborted
    shadow_changed,    // since its build; the transaction must be aborted
};

// One way to exchange a live partition and its shadow. Functions that read catalogs need a
// PinnedSettings scope.
struct SwapMethod {
    const char *name; // value of backfill_start's parameter `swap`
    // Hint for partitions that another method refuses and this one does not; null: none.
    const char *recommendation;
    // Reasons for which the method cannot rebuild the leaves.
    std::vector<Hazard> (*refusals)(const std::vector<Oid> &leaves);
    // What the swap of the leaves will lock, scan or ask for.
    std::vector<Hazard> (*warnings)(const std::vector<Oid> &leaves);
    // Raises unless the current role has the privileges for new tables that the exchange
    // asks for. Called by backfill_start.
    void (*check_privileges)(const std::vector<Oid> &leaves);
    // Raises unless the current role may do to the tables what the exchange does. Called
    // by each step, before a lock is taken and under it.
    void (*check_rights)(const catalog::Leaf &leaf);
    // Makes the shadow, empty, and returns its OID. ACCESS SHARE on the live partition.
    Oid (*create_shadow)(std::int64_t job, const catalog::Leaf &leaf, const std::vector<Oid> &proofs);
    // Completes the shadow once it is loaded and its indexes are built, in the transaction
    // and under the snapshot of the load. Raises when the shadow cannot be swapped.
    void (*finish_shadow)(const SwapRequest &request, const catalog::Leaf &leaf);
    // Runs the next step, a transaction each, of making a kept table that was live before fit for the
    // exchange back, as create_shadow and finish_shadow make a shadow; complete when nothing is left, under
    // locks to the end of the transaction. Raises when the table cannot come back as it is.
    Preparation (*adopt)(const SwapRequest &request, const catalog::Leaf &leaf,
                         std::vector<locks::TableLock> &locks);
    // Runs the next step of what makes the exchange quick and concerns other tables than the
    // shadow, a transaction each. Can run before the shadow is filled, and does when writers are
    // kept out from the build to the swap. May change `request.proof`; puts the locks that it
    // asked for into `locks`.
    Preparation (*prepare)(SwapRequest &request, const catalog::Leaf &leaf,
                           std::vector<locks::TableLock> &locks);
    // As `prepare`, for what is done to the shadow once it is filled.
    Preparation (*prepare_shadow)(const SwapRequest &request, const catalog::Leaf &leaf,
                                  std::vector<locks::TableLock> &locks);
    // Whether every step of `prepare`, and of `prepare_shadow`, is done. Asked before the locks
    // and under them.
    bool (*prepared)(const SwapRequest &request, const catalog::Leaf &leaf);
    bool (*shadow_prepared)(const SwapRequest &request, const catalog::Leaf &leaf);
    // Raises when the exchange may not be made. Called before the locks and under them.
    void (*check)(const SwapRequest &request, const catalog::Leaf &leaf);
    // Whether tables_to_lock has the parent: a build that reads the parent holds up a swap.
    bool locks_parent;
    // Locks that the exchange needs, in the order in which they are taken.
    std::vector<locks::TableLock> (*tables_to_lock)(const catalog::Leaf &leaf, Oid shadow);
    // Exchanges the two under these locks, in the same transaction. Returns the OID of the
    // table that holds the old rows from then on.
    Oid (*exchange)(const SwapRequest &request, const catalog::Leaf &leaf);
    // Locks that keep writers out of the partition from a build's snapshot to its swap in
    // the same transaction. A writer that waits for them must hold nothing that the
    // exchange needs exclusively.
    std::vector<locks::TableLock> (*locks_against_writers)(const catalog::Leaf &leaf);
    // Whether a partition that was written to during each of its builds is built once more
    // with writers kept out; it fails otherwise.
    bool blocks_writers_at_last;
};

extern const SwapMethod kAttach;  // attach.cpp: DETACH, SET SCHEMA twice, ATTACH; documented DDL only
extern const SwapMethod kStorage; // storage.cpp: the two tables exchange their files, as in CLUSTER

// All methods. backfill_start takes the first that refuses none of a job's partitions, unless it is told
// which to take.
const std::vector<const SwapMethod *> &swap_methods();

// The method of that name. Raises invalid_parameter_value when there is none.
const SwapMethod &swap_method(const std::string &name);

// The value of backfill_start's parameter `swap` that leaves the choice to it.
inline constexpr const char *kAnyMethod = "auto";
// The name, which is that value or a method's. Raises invalid_parameter_value when it is neither.
const std::string &checked_method(const std::string &name);

} // namespace partbackfill::swap
