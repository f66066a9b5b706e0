#include "partbackfill/engine/swap.hpp"

#include "partbackfill/engine/catalog_drop.hpp"
#include "partbackfill/engine/fingerprint.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/write_guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::engine {

namespace {

using Clock = std::chrono::steady_clock;

// Runs the work with every wait bounded; false when others were in the way.
template <class F>
bool bounded(std::chrono::milliseconds limit, F &&work) {
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

// Whether the partition, or one above it, is a DEFAULT.
bool depends_on_siblings(Oid leaf) {
    return pg::query_row(R"SQL(
        SELECT COALESCE(bool_or(pg_get_expr(c.relpartbound, 0) = 'DEFAULT'), false)
        FROM pg_partition_ancestors($1) AS a JOIN pg_class AS c ON c.oid = a.relid
    )SQL",
                         {leaf})
        .boolean(0);
}

// A new sibling takes from what a DEFAULT may hold, and is no change of the DEFAULT's own
// catalog rows. Deparsing locks the tree: the locks are given back at once, since a table
// on which this process has one already is never queued for.
bool has_constraint(const SwapRequest &request) {
    const pg::Subtransaction always_rolled_back;
    const BoundedWaits waits(request.lock_timeout);
    return constraint_text(request.live) == request.constraint;
}

// False in `free` when others were in the way of the look.
bool is_as_it_was(const SwapRequest &request, std::string &known, bool &free) {
    free = true;
    if (!has_fingerprint(request.live, request.shadow, request.proofs(), known))
        return false;
    if (!depends_on_siblings(request.live))
        return true;
    try {
        return has_constraint(request);
    } catch (const pg::Error &error) {
        if (!is_contention(error))
            throw;
        free = false;
        return true;
    }
}

} // namespace

const SwapMethod &swap_method(const std::string &name) { return name == kStorageName ? kStorage : kAttach; }

bool run_bounded(const std::vector<std::string> &statements, std::chrono::milliseconds limit) {
    return bounded(limit, [&] {
        for (const auto &statement : statements)
            pg::execute(statement);
    });
}

SwapResult swap(const SwapMethod &method, const SwapRequest &request) {
    const pg::KeepPlans keep;
    SwapResult result;
    const auto before = find_leaf(request.live, request.target);
    if (!before || before->bound != request.bound) {
        result.outcome = SwapOutcome::gone;
        return result;
    }
    // Nobody has to wait for a swap that cannot be; and what is looked at once more
    // under the locks is then in the caches.
    std::string known = request.fingerprint;
    bool free = true;
    if (!is_as_it_was(request, known, free)) {
        result.outcome = SwapOutcome::changed;
        return result;
    }
    if (!free) {
        result.locks = method.tables_to_lock(*before, request.shadow);
        return result;
    }
    if (!method.prepared(request, *before)) {
        result.outcome = SwapOutcome::unprepared;
        return result;
    }
    if (!request.untouched()) {
        result.outcome = SwapOutcome::touched;
        return result;
    }
    method.check(request, *before);
    result.locks = method.tables_to_lock(*before, request.shadow);
    const auto asked = Clock::now();
    // Only then the writes: what could not be swapped anyway is not built again for
    // them, and again.
    if (!worth_queueing(result.locks, request.lock_timeout)) {
        result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
        return result;
    }
    if (request.lacks_writes && request.lacks_writes()) {
        result.outcome = SwapOutcome::written;
        return result;
    }
    const bool locked = lock_politely(result.locks, request.lock_timeout, &result.locked_at);
    result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
    if (!locked)
        return result;
    // Whatever was true before the locks may have changed while they were waited for.
    const auto leaf = find_leaf(request.live, request.target);
    if (!leaf || leaf->bound != request.bound || leaf->parent != before->parent) {
        result.outcome = SwapOutcome::gone;
        return result;
    }
    if (!is_as_it_was(request, known, free) || method.tables_to_lock(*leaf, request.shadow) != result.locks) {
        result.outcome = SwapOutcome::changed;
        return result;
    }
    if (!free)
        return result;
    if (!method.prepared(request, *leaf)) {
        result.outcome = SwapOutcome::unprepared;
        return result;
    }
    // Every writer has ended, and what he committed is seen.
    if (request.lacks_writes && request.lacks_writes()) {
        result.outcome = SwapOutcome::written;
        return result;
    }
    if (!request.untouched()) {
        result.outcome = SwapOutcome::touched;
        return result;
    }
    method.check(request, *leaf);
    free = bounded(request.lock_timeout, [&] {
        for (const Oid table : {request.live, request.shadow}) {
            drop_guard(request.job, table);
            unmark_triggers(table);
        }
        result.old_table = method.exchange(request, *leaf);
    });
    result.outcome = free ? SwapOutcome::swapped : SwapOutcome::locked_out;
    return result;
}

} // namespace partbackfill::engine
