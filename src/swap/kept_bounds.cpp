#include "partbackfill/swap/kept_bounds.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/table_owner.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/definition.hpp"

namespace partbackfill::swap {

namespace {

std::vector<locks::TableLock> with_partition(const catalog::Leaf &leaf, Oid kept, locks::LockMode mode) {
    std::vector<locks::TableLock> locks = locks::share_ancestors(leaf.parent);
    locks.push_back({leaf.parent, locks::LockMode::access_share});
    locks.push_back({leaf.oid, locks::LockMode::access_share});
    locks.push_back({kept, mode});
    return locks;
}

// The locks are given back, since lock_politely() does not queue for a table on which this process has one.
bool look(const SwapRequest &request, const catalog::Leaf &leaf, std::vector<locks::TableLock> &locks,
          shadow::Bounds &bounds) {
    const pg::Subtransaction always_rolled_back;
    locks = with_partition(leaf, request.shadow, locks::LockMode::access_share);
    if (!locks::lock_politely(locks, request.lock_timeout))
        return false;
    bounds = shadow::bounds_of(leaf.oid, request.shadow);
    return true;
}

void validate(Oid kept) {
    const pg::CallersPath path;
    const pg::AsTableOwner as_owner(kept);
    pg::execute(fmt::format("ALTER TABLE {} VALIDATE CONSTRAINT {}",
                            catalog::relation_entry(kept).qualified(), shadow::kBoundsConstraint));
}

} // namespace

Preparation adopt_bounds(const SwapRequest &request, const catalog::Leaf &leaf,
                         std::vector<locks::TableLock> &locks) {
    shadow::Bounds bounds{};
    if (!look(request, leaf, locks, bounds))
        return Preparation::locks_not_granted;
    if (bounds == shadow::Bounds::valid)
        return Preparation::complete;
    locks = bounds == shadow::Bounds::added
                ? std::vector<locks::TableLock>{{request.shadow, locks::LockMode::share_update_exclusive}}
                : with_partition(leaf, request.shadow, locks::LockMode::access_exclusive);
    if (!locks::lock_politely(locks, request.lock_timeout))
        return Preparation::locks_not_granted;
    if (bounds == shadow::Bounds::added) {
        validate(request.shadow);
        return Preparation::again;
    }
    if (bounds == shadow::Bounds::others)
        shadow::drop_bounds(request.shadow);
    return shadow::add_unvalidated_bounds(leaf.oid, request.shadow) ? Preparation::again
                                                                    : Preparation::complete;
}

} // namespace partbackfill::swap
