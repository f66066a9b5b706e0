#include "partbackfill/swap/swap.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/locks/shard_moves.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings_scope.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/shadow/own_tables.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::swap {

namespace {

using Clock = std::chrono::steady_clock;

// Nothing when the partition is gone, or its rows are on another node.
std::optional<catalog::Leaf> find_leaf_here(const SwapRequest &request) {
    auto leaf = catalog::find_same_leaf(request.live, request.target, request.bound);
    return leaf && catalog::is_in_place(request.target, request.shard) ? leaf : std::nullopt;
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

// Raises as the method's check does. definition_changed or shadow_changed when the check failed on a table
// that has been changed since the caller asked, which no lock forbids yet.
std::optional<SwapOutcome> unlocked_obstacle(const SwapMethod &method, const SwapRequest &request,
                                             const catalog::Leaf &leaf, std::string &known) {
    try {
        pg::Subtransaction subtransaction;
        method.check(request, leaf);
        subtransaction.commit();
    } catch (const pg::Error &) {
        if (const auto met = definition_obstacle(request, known))
            return met;
        if (request.shadow_unchanged())
            throw;
        return SwapOutcome::shadow_changed;
    }
    return std::nullopt;
}

bool passes_log_on(const SwapRequest &request) {
    return request.keeps_old && request.logs_keys;
}

std::optional<writes::KeyLog> usable_log(const SwapRequest &request, Oid live) {
    const auto key = catalog::find_row_key(live);
    return key ? shadow::find_key_log(request.job, live, *key) : std::nullopt;
}

// The method's locks, then those on a key log that goes with the live partition, and on a table which the
// swap drops.
std::vector<locks::TableLock> locks_for(const SwapMethod &method, const PendingSwap &swap,
                                        const catalog::Leaf &leaf) {
    const SwapRequest &request = swap.request;
    std::vector<locks::TableLock> locks = method.tables_to_lock(leaf, request.shadow);
    if (swap.log != kNoOid)
        locks.push_back({swap.log, locks::LockMode::access_exclusive});
    if (request.discarded != kNoOid)
        locks.push_back({request.discarded, locks::LockMode::access_exclusive});
    return locks;
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
    if (request.shard != catalog::kNoShard && locks::is_moving(request.live))
        return SwapOutcome::shard_moves;
    if (!method.prepared(request, leaf) || !method.shadow_prepared(request, leaf))
        return SwapOutcome::not_prepared;
    if (look == Look::under_locks && lacks_writes(request))
        return SwapOutcome::rows_written;
    if (!request.shadow_unchanged())
        return SwapOutcome::shadow_changed;
    if (look == Look::before_locks)
        return unlocked_obstacle(method, request, leaf, known);
    method.check(request, leaf);
    return std::nullopt;
}

// Before any table: a move of the shard that keeps writers out reads the tables.
bool lock_shard(const SwapRequest &request, SwapResult &result) {
    if (request.shard == catalog::kNoShard || locks::lock_shard(request.shard, request.lock_timeout))
        return true;
    result.outcome = SwapOutcome::shard_moves;
    return false;
}

// False when the locks were not had, or when a write makes them useless.
bool take_locks(const SwapRequest &request, SwapResult &result) {
    const auto asked = Clock::now();
    if (!lock_shard(request, result))
        return false;
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

// Looks whether the exchange may be made and which locks it needs. False with the outcome otherwise.
bool look_first(const SwapMethod &method, PendingSwap &swap) {
    const SwapRequest &request = swap.request;
    const auto leaf = find_leaf_here(request);
    swap.result.outcome = SwapOutcome::partition_gone;
    if (!leaf)
        return false;
    swap.leaf = *leaf;
    method.check_rights(*leaf);
    swap.known = request.definition_digest;
    const auto met = obstacle(method, request, *leaf, swap.known, Look::before_locks);
    swap.result.outcome = met.value_or(SwapOutcome::locks_not_granted);
    if (passes_log_on(request)) {
        swap.log = shadow::key_log_of(request.job, request.live);
        swap.usable_log = usable_log(request, request.live);
    }
    if (!met || *met == SwapOutcome::locks_not_granted)
        swap.result.locks = locks_for(method, swap, *leaf);
    return !met;
}

void drop_captures(const SwapRequest &request) {
    for (const Oid table : {request.live, request.shadow}) {
        writes::drop_write_capture(request.job, table);
        catalog::unmark_triggers(table);
    }
}

// Makes the key log that of the partition which is live now. Only a log of which entries were used and not
// deleted is emptied: new files take longer than all else that is done for it.
std::optional<writes::KeyLog> pass_log_on(const PendingSwap &swap, Oid live) {
    const SwapRequest &request = swap.request;
    if (swap.log == kNoOid)
        return std::nullopt;
    if (request.empties_log)
        shadow::empty_key_log(swap.log);
    if (live == request.live)
        return swap.usable_log;
    shadow::pass_key_log_on(request.job, request.live, live);
    return usable_log(request, live);
}

// While the old rows are kept, a revert has to know what was written since to either table. A kept table has
// a write capture already, unless its writes were not noticed until now.
writes::WriteBaseline keep_captured(const PendingSwap &swap, Oid live, Oid kept) {
    const std::int64_t job = swap.request.job;
    const auto log = pass_log_on(swap, live);
    const writes::Level level = writes::finest_level(live);
    // Without a trigger for each row, a revert has to be forced.
    if (level == writes::Level::row)
        writes::create_write_capture(job, live, log ? &*log : nullptr, writes::Marks::of_the_first);
    else
        writes::drop_write_capture(job, live);
    if (!writes::has_write_capture(job, kept))
        writes::create_write_capture(job, kept, nullptr, writes::Marks::of_the_first, level);
    return writes::write_baseline(job, live, pg::Read::newest);
}

// Exchanges under the locks, since each answer may have changed while they were waited for. False with
// the outcome when it did.
bool exchange_locked(const SwapMethod &method, PendingSwap &swap) {
    const SwapRequest &request = swap.request;
    const auto stop = [&](SwapOutcome outcome) {
        swap.result.outcome = outcome;
        return false;
    };
    const auto leaf = find_leaf_here(request);
    if (!leaf || leaf->parent != swap.leaf.parent)
        return stop(SwapOutcome::partition_gone);
    method.check_rights(*leaf);
    if (locks_for(method, swap, *leaf) != swap.result.locks)
        return stop(SwapOutcome::definition_changed);
    // Every writer has ended, and what it committed is seen.
    if (const auto meets = obstacle(method, request, *leaf, swap.known, Look::under_locks))
        return stop(*meets);
    const bool free = locks::try_bounded(request.lock_timeout, [&] {
        if (request.discarded != kNoOid)
            shadow::drop_own_table(request.job, request.discarded);
        if (!request.keeps_old)
            drop_captures(request);
        swap.result.old_table = method.exchange(request, *leaf);
        swap.result.live = swap.result.old_table == request.live ? request.shadow : request.live;
        // A capture of another job does not notice that the partition has other files.
        if (swap.result.live == request.live)
            writes::drop_other_write_captures(request.job, request.live);
        if (request.keeps_old)
            swap.result.captured = keep_captured(swap, swap.result.live, swap.result.old_table);
    });
    stop(free ? SwapOutcome::swapped : SwapOutcome::locks_not_granted);
    return free;
}

// Readers wait: no catalog is read whole, however many tables there are.
class ByIndex {
public:
    ByIndex() { settings_.set("enable_seqscan", "off"); }

private:
    const pg::KeepPlans keep_;
    pg::SettingsScope settings_;
};

// The locks of all, in their order, each table once with its strongest mode.
std::vector<locks::TableLock> locks_of(const std::vector<PendingSwap> &swaps) {
    std::vector<locks::TableLock> all;
    std::map<Oid, std::size_t> place;
    for (const PendingSwap &swap : swaps)
        for (const locks::TableLock &lock : swap.result.locks) {
            const auto [known, is_new] = place.emplace(lock.table, all.size());
            if (is_new)
                all.push_back(lock);
            else
                all[known->second].mode = std::max(all[known->second].mode, lock.mode);
        }
    return all;
}

// The first swap for which it holds; the number of swaps when there is none.
template <class Condition>
std::size_t first_with(std::vector<PendingSwap> &swaps, Condition &&condition) {
    const auto found = std::find_if(swaps.begin(), swaps.end(), condition);
    return static_cast<std::size_t>(found - swaps.begin());
}

// Takes the locks of all at once. Returns the first swap that is in the way, or their number.
std::size_t take_all_locks(std::vector<PendingSwap> &swaps, std::chrono::milliseconds moment,
                           std::chrono::milliseconds limit) {
    const std::vector<locks::TableLock> all = locks_of(swaps);
    const auto asked = Clock::now();
    // One shard: that of the job.
    if (!lock_shard(swaps.front().request, swaps.front().result))
        return 0;
    const bool had_moment = locks::wait_for_moment(all, limit, moment);
    if (const std::size_t written =
            first_with(swaps, [](const PendingSwap &swap) { return lacks_writes(swap.request); });
        had_moment && written < swaps.size()) {
        swaps[written].result.outcome = SwapOutcome::rows_written;
        return written;
    }
    Clock::time_point locked_at;
    const bool locked = had_moment && locks::lock_politely(all, limit, &locked_at);
    for (PendingSwap &swap : swaps) {
        swap.result.locked_at = locked_at;
        swap.result.lock_wait = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - asked);
    }
    if (locked)
        return swaps.size();
    const std::size_t blocked =
        first_with(swaps, [](const PendingSwap &swap) { return !locks::none_in_the_way(swap.result.locks); });
    return blocked < swaps.size() ? blocked : 0;
}

} // namespace

SwapResult swap(const SwapMethod &method, const SwapRequest &request) {
    const ByIndex by_index;
    PendingSwap swap;
    swap.request = request;
    if (look_first(method, swap) && take_locks(request, swap.result))
        exchange_locked(method, swap);
    return swap.result;
}

std::size_t swap_together(const SwapMethod &method, std::vector<PendingSwap> &swaps,
                          const TogetherRequest &request) {
    const ByIndex by_index;
    for (std::size_t i = 0; i < swaps.size(); i++) {
        request.begins(i);
        if (!look_first(method, swaps[i]))
            return i;
    }
    const std::chrono::milliseconds limit = request.lock_timeout();
    if (const std::size_t met = take_all_locks(swaps, request.moment, limit); met < swaps.size())
        return met;
    for (std::size_t i = 0; i < swaps.size(); i++) {
        request.begins(i);
        swaps[i].request.lock_timeout = limit;
        if (!exchange_locked(method, swaps[i]))
            return i;
        request.swapped(i);
    }
    return swaps.size();
}

} // namespace partbackfill::swap
