#include "partbackfill/engine/swap.hpp"

#include "partbackfill/engine/fingerprint.hpp"
#include "partbackfill/engine/locks.hpp"

namespace partbackfill::engine {

SwapResult swap(const SwapMethod &method, const SwapRequest &request) {
    using Clock = std::chrono::steady_clock;
    SwapResult result;
    const auto before = find_leaf(request.live);
    if (!before || before->bound != request.bound) {
        result.outcome = SwapOutcome::gone;
        return result;
    }
    if (!method.prepared(request, *before)) {
        result.outcome = SwapOutcome::unprepared;
        return result;
    }
    result.locks = method.tables_to_lock(*before, request.shadow);
    const auto asked = Clock::now();
    const bool locked = lock_exclusively(result.locks, request.lock_timeout, &result.locked_at);
    result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
    if (!locked)
        return result;
    // Whatever was true before the locks may have changed while they were waited for.
    const auto leaf = find_leaf(request.live);
    if (!leaf || leaf->bound != request.bound || leaf->parent != before->parent ||
        method.tables_to_lock(*leaf, request.shadow) != result.locks) {
        result.outcome = SwapOutcome::gone;
        return result;
    }
    if (!method.prepared(request, *leaf)) {
        result.outcome = SwapOutcome::unprepared;
        return result;
    }
    if (fingerprint(request.live) != request.fingerprint) {
        result.outcome = SwapOutcome::changed;
        return result;
    }
    result.old_table = method.exchange(request, *leaf);
    result.outcome = SwapOutcome::swapped;
    return result;
}

} // namespace partbackfill::engine
