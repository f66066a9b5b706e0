// The exchange of a live partition and its shadow, whatever the method.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/swap/method.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::swap {

// Every outcome but swapped and partition_gone leaves a transaction that must be aborted.
enum class SwapOutcome {
    swapped,
    locks_not_granted,  // in time
    not_prepared,       // the method has to prepare first
    rows_written,       // to the live partition, after the build's snapshot
    shadow_changed,     // since its build
    definition_changed, // of the live partition, since the shadow was made
    shard_moves,        // to another node, just now
    partition_gone, // the live partition is no partition any more, has other bounds, or is on another node
};

struct SwapResult {
    SwapOutcome outcome = SwapOutcome::locks_not_granted;
    Oid old_table = kNoOid;
    Oid live = kNoOid;                      // after the swap
    writes::WriteBaseline captured{};       // of writes to it from the swap on, when old rows are kept
    std::chrono::microseconds lock_wait{0}; // until the last lock was had, or given up
    std::chrono::steady_clock::time_point locked_at{}; // the time from which readers had to wait
    std::vector<locks::TableLock> locks;               // that were asked for
};

// Takes the method's locks, checks again that the partition and the shadow are those of the
// build, and exchanges them. Needs a PinnedSettings scope; the caller commits or aborts.
SwapResult swap(const SwapMethod &method, const SwapRequest &request);

// One swap of several that are made in one transaction.
struct PendingSwap {
    SwapRequest request;
    catalog::Leaf leaf;                       // before the locks
    std::string known;                        // digest of the definition of the leaf
    Oid log = kNoOid;                         // the key log that goes with the live partition
    std::optional<writes::KeyLog> usable_log; // that log, when the live partition still has the key of it
    SwapResult result;
};

struct TogetherRequest {
    std::function<std::chrono::milliseconds()> lock_timeout; // asked once, when the locks are
    std::chrono::milliseconds moment{0};                     // as in SwapRequest
    std::function<void(std::size_t)> begins;  // called before the swap at that place is looked at
    std::function<void(std::size_t)> swapped; // called after its exchange
};

// As swap(), for all or none: the locks of all are taken together. Returns the place of the first swap
// that was not made, whose result tells why; the number of swaps when all were.
std::size_t swap_together(const SwapMethod &method, std::vector<PendingSwap> &swaps,
                          const TogetherRequest &request);

} // namespace partbackfill::swap
