#include "partbackfill/engine/swap.hpp"

#include <optional>

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

bool lacks_writes(const SwapRequest &request) {
    return request.lacks_writes && request.lacks_writes();
}

// Raises as the method's check does; false when the shadow was changed just now, which no
// lock forbids yet: it is that which the check has met then.
bool checked_unlocked(const SwapMethod &method, const SwapRequest &request, const Leaf &leaf) {
    try {
        pg::Subtransaction subtransaction;
        method.check(request, leaf);
        subtransaction.commit();
    } catch (const pg::Error &) {
        if (request.untouched())
            throw;
        return false;
    }
    return true;
}

enum class Look { before_locks, under_locks };

// What decides whether the exchange may be made, asked before the locks and under them:
// no one has to wait for a swap that cannot be, and what is looked at once more under the
// locks is then in the caches. Nothing when it may; locked_out when others were in the
// way of the look.
std::optional<SwapOutcome> obstacle(const SwapMethod &method, const SwapRequest &request, const Leaf &leaf,
                                    std::string &known, Look look) {
    bool free = true;
    if (!is_as_it_was(request, known, free))
        return SwapOutcome::changed;
    if (!free)
        return SwapOutcome::locked_out;
    if (!method.prepared(request, leaf))
        return SwapOutcome::unprepared;
    if (look == Look::under_locks && lacks_writes(request))
        return SwapOutcome::written;
    if (!request.untouched())
        return SwapOutcome::touched;
    if (look == Look::under_locks)
        method.check(request, leaf);
    else if (!checked_unlocked(method, request, leaf))
        return SwapOutcome::touched;
    return std::nullopt;
}

// False when the locks were not had, or are not worth to be had.
bool take_locks(const SwapRequest &request, SwapResult &result) {
    const auto asked = Clock::now();
    bool locked = wait_for_moment(result.locks, request.lock_timeout, request.moment);
    // Only then the writes: what could not be swapped anyway is not built again for
    // them, and again.
    if (locked && lacks_writes(request)) {
        result.outcome = SwapOutcome::written;
        return false;
    }
    locked = locked && lock_politely(result.locks, request.lock_timeout, &result.locked_at);
    result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
    return locked;
}

} // namespace

const SwapMethod &swap_method(const std::string &name) {
    return name == kStorageName ? kStorage : kAttach;
}

bool run_bounded(const std::vector<std::string> &statements, std::chrono::milliseconds limit) {
    return bounded(limit, [&] {
        for (const auto &statement : statements)
            pg::execute(statement);
    });
}

SwapResult swap(const SwapMethod &method, const SwapRequest &request) {
    const pg::KeepPlans keep;
    SwapResult result;
    const auto stop = [&](SwapOutcome outcome) {
        result.outcome = outcome;
        return result;
    };
    const auto before = find_leaf(request.live, request.target);
    if (!before || before->bound != request.bound)
        return stop(SwapOutcome::gone);
    method.check_rights(*before);
    std::string known = request.fingerprint;
    const auto met = obstacle(method, request, *before, known, Look::before_locks);
    if (met && *met != SwapOutcome::locked_out)
        return stop(*met);
    result.locks = method.tables_to_lock(*before, request.shadow);
    if (met || !take_locks(request, result))
        return result;
    // Whatever was true before the locks may have changed while they were waited for.
    const auto leaf = find_leaf(request.live, request.target);
    if (!leaf || leaf->bound != request.bound || leaf->parent != before->parent)
        return stop(SwapOutcome::gone);
    method.check_rights(*leaf);
    if (method.tables_to_lock(*leaf, request.shadow) != result.locks)
        return stop(SwapOutcome::changed);
    // Every writer has ended, and what he committed is seen.
    if (const auto meets = obstacle(method, request, *leaf, known, Look::under_locks))
        return stop(*meets);
    const bool free = bounded(request.lock_timeout, [&] {
        for (const Oid table : {request.live, request.shadow}) {
            drop_guard(request.job, table);
            unmark_triggers(table);
        }
        result.old_table = method.exchange(request, *leaf);
    });
    return stop(free ? SwapOutcome::swapped : SwapOutcome::locked_out);
}

} // namespace partbackfill::engine
