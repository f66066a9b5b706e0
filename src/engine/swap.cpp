#include "partbackfill/engine/swap.hpp"

#include "partbackfill/engine/fingerprint.hpp"
#include "partbackfill/engine/write_guard.hpp"

namespace partbackfill::engine {

namespace {

using Clock = std::chrono::steady_clock;

void exchange(const SwapMethod &method, const SwapRequest &request, const Leaf &leaf, SwapResult &result) {
    const BoundedWaits bounded(request.lock_timeout);
    try {
        drop_guard(request.job, request.live);
        result.old_table = method.exchange(request, leaf);
        result.outcome = SwapOutcome::swapped;
    } catch (const pg::Error &error) {
        if (!is_contention(error))
            throw;
        result.outcome = SwapOutcome::locked_out;
    }
}

} // namespace

SwapResult swap(const SwapMethod &method, const SwapRequest &request) {
    SwapResult result;
    const auto before = find_leaf(request.live, request.target);
    if (!before || before->bound != request.bound) {
        result.outcome = SwapOutcome::gone;
        return result;
    }
    if (!method.prepared(request, *before)) {
        result.outcome = SwapOutcome::unprepared;
        return result;
    }
    if (request.lacks_writes && request.lacks_writes()) {
        result.outcome = SwapOutcome::written;
        return result;
    }
    result.locks = method.tables_to_lock(*before, request.shadow);
    const auto asked = Clock::now();
    const bool locked = lock_exclusively(result.locks, request.lock_timeout, &result.locked_at);
    result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
    if (!locked)
        return result;
    // Whatever was true before the locks may have changed while they were waited for.
    const auto leaf = find_leaf(request.live, request.target);
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
    // Every writer has ended, and what he committed is seen.
    if (request.lacks_writes && request.lacks_writes()) {
        result.outcome = SwapOutcome::written;
        return result;
    }
    exchange(method, request, *leaf, result);
    return result;
}

} // namespace partbackfill::engine
