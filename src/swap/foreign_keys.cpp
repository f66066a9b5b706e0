#include "partbackfill/swap/foreign_keys.hpp"

#include <optional>

#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/table_owner.hpp"

namespace partbackfill::swap {

Preparation prepare_foreign_key(const SwapRequest &request, const catalog::Leaf &leaf, shadow::Keys keys,
                                std::vector<locks::TableLock> &locks) {
    const auto step = shadow::next_foreign_key_step(leaf, request.shadow, keys);
    if (!step)
        return Preparation::complete;
    catalog::check_may_reference(step->locks.front().table);
    locks = step->locks;
    locks.push_back({request.shadow, locks::LockMode::share_row_exclusive});
    if (!locks::lock_politely(locks, request.lock_timeout))
        return Preparation::locks_not_granted;
    // A change from elsewhere must be found before the step: its digest is recorded anew after it.
    if (!request.shadow_unchanged())
        return Preparation::shadow_changed;
    const bool done = locks::try_bounded(request.lock_timeout, [&] {
        const pg::CallersPath path;
        std::optional<pg::AsTableOwner> as_owner;
        if (step->validates)
            as_owner.emplace(request.shadow);
        for (const std::string &statement : step->statements)
            pg::execute(statement);
    });
    if (done && step->validates && keys == shadow::Keys::all)
        shadow::mark_parts_valid(request.shadow);
    return done ? Preparation::again : Preparation::locks_not_granted;
}

} // namespace partbackfill::swap
