#include "partbackfill/swap/swap.hpp"

#include <optional>

#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings_scope.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::swap {

namespace {

using Clock = std::chrono::steady_clock;

// Whether the partition, or one above it, is a DEFAULT.
bool depends_on_siblings(Oid leaf) {
    return pg::query_row(R"SQL(
        SELECT COALESCE(bool_or(pg_get_expr(c.relpartbound, 0) = 'DEFAULT'), false)
        FROM pg_partition_ancestors($1) AS a JOIN pg_class AS c ON c.oid = a.relid
    )SQL",
                         {leaf})
        .boolean(0);
}

// definition_changed, locks_not_granted when other sessions were in the way of the check, or
// nothing. The digest of `known` is brought up to date.
std::optional<SwapOutcome> definition_obstacle(const SwapRequest &request, std::string &known) {
    if (!catalog::matches_definition_digest(request.live, request.shadow, request.proofs(), known))
        return SwapOutcome::definition_changed;
    if (!depends_on_siblings(request.live))
        return std::nullopt;
    // A new sibling takes from what a DEFAULT may hold, without a change of the DEFAULT's own
    // catalog rows. Deparsing locks the tree: the locks are given back at once, since
    // lock_politely does not queue for a table on which this process has a lock already.
    const pg::Subtransaction always_rolled_back;
    bool same = false;
    const bool free = locks::try_bounded(
        request.lock_timeout, [&] { same = catalog::constraint_text(request.live) == request.constraint; });
    if (!free)
        return SwapOutcome::locks_not_granted;
    return same ? std::nullopt : std::optional(SwapOutcome::definition_changed);
}

bool lacks_writes(const SwapRequest &request) {
    return request.lacks_writes && request.lacks_writes();
}

// Raises as the method's check does. False when the check failed on a shadow that has been
// changed since the caller asked, which no lock forbids yet.
bool checked_unlocked(const SwapMethod &method, const SwapRequest &request, const catalog::Leaf &leaf) {
    try {
        pg::Subtransaction subtransaction;
        method.check(request, leaf);
        subtransaction.commit();
    } catch (const pg::Error &) {
        if (request.shadow_unchanged())
            throw;
        return false;
    }
    return true;
}

enum class Look { before_locks, under_locks };

// What decides whether the exchange may be made, asked before the locks and under them: no
// session has to wait for a swap that cannot be made, and the catalog rows that are read
// again under the locks are in the caches by then. Nothing when the exchange may be made;
// locks_not_granted when other sessions were in the way of the look.
std::optional<SwapOutcome> obstacle(const SwapMethod &method, const SwapRequest &request,
                                    const catalog::Leaf &leaf, std::string &known, Look look) {
    if (const auto met = definition_obstacle(request, known))
        return met;
    if (!method.prepared(request, leaf))
        return SwapOutcome::not_prepared;
    if (look == Look::under_locks && lacks_writes(request))
        return SwapOutcome::rows_written;
    if (!request.shadow_unchanged())
        return SwapOutcome::shadow_changed;
    if (look == Look::under_locks)
        method.check(request, leaf);
    else if (!checked_unlocked(method, request, leaf))
        return SwapOutcome::shadow_changed;
    return std::nullopt;
}

// False when the locks were not had, or when a write makes them useless.
bool take_locks(const SwapRequest &request, SwapResult &result) {
    const auto asked = Clock::now();
    bool locked = locks::wait_for_moment(result.locks, request.lock_timeout, request.moment);
    // Writes count only now: a partition that could not be swapped anyway is not rebuilt for
    // them again and again.
    if (locked && lacks_writes(request)) {
        result.outcome = SwapOutcome::rows_written;
        return false;
    }
    locked = locked && locks::lock_politely(result.locks, request.lock_timeout, &result.locked_at);
    result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
    return locked;
}

} // namespace

SwapResult swap(const SwapMethod &method, const SwapRequest &request) {
    const pg::KeepPlans keep;
    pg::SettingsScope by_index; // readers wait: no catalog is read whole, however many tables there are
    by_index.set("enable_seqscan", "off");
    SwapResult result;
    const auto stop = [&](SwapOutcome outcome) {
        result.outcome = outcome;
        return result;
    };
    const auto before = catalog::find_same_leaf(request.live, request.target, request.bound);
    if (!before)
        return stop(SwapOutcome::partition_gone);
    method.check_rights(*before);
    std::string known = request.definition_digest;
    const auto met = obstacle(method, request, *before, known, Look::before_locks);
    if (met && *met != SwapOutcome::locks_not_granted)
        return stop(*met);
    result.locks = method.tables_to_lock(*before, request.shadow);
    if (met || !take_locks(request, result))
        return result;
    // Each answer may have changed while the locks were waited for.
    const auto leaf = catalog::find_same_leaf(request.live, request.target, request.bound);
    if (!leaf || leaf->parent != before->parent)
        return stop(SwapOutcome::partition_gone);
    method.check_rights(*leaf);
    if (method.tables_to_lock(*leaf, request.shadow) != result.locks)
        return stop(SwapOutcome::definition_changed);
    // Every writer has ended, and what it committed is seen.
    if (const auto meets = obstacle(method, request, *leaf, known, Look::under_locks))
        return stop(*meets);
    const bool free = locks::try_bounded(request.lock_timeout, [&] {
        for (const Oid table : {request.live, request.shadow}) {
            writes::drop_write_capture(request.job, table);
            catalog::unmark_triggers(table);
        }
        result.old_table = method.exchange(request, *leaf);
    });
    return stop(free ? SwapOutcome::swapped : SwapOutcome::locks_not_granted);
}

} // namespace partbackfill::swap
