#include "partbackfill/engine/swap.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/carry.hpp"
#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/likeness.hpp"
#include "partbackfill/engine/rights.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings.hpp"
#include "partbackfill/pg/table_owner.hpp"

namespace partbackfill::engine {

namespace {

// DETACH and ATTACH ask for both.
void check_rights(const Leaf &leaf) {
    check_owner("table", leaf.parent);
    check_owner("partition", leaf.name, leaf.owner);
}

// The parent before the partitions: whoever reads or writes through it waits
// there, once, and holds nothing of what follows. What is above it is only read,
// but in the order in which everybody locks a tree.
std::vector<TableLock> tables_to_lock(const Leaf &leaf, Oid shadow) {
    std::vector<TableLock> locks = share_ancestors(leaf.parent);
    locks.push_back({leaf.parent, LockMode::access_exclusive});
    locks.push_back({leaf.oid, LockMode::access_exclusive});
    if (const auto sibling = default_sibling(leaf))
        locks.push_back({*sibling, LockMode::access_exclusive});
    locks.push_back({shadow, LockMode::access_exclusive});
    return locks;
}

// The server plans the parent's key and the constraints of both tables.
void execute_on_tree(const std::string &statement) {
    const pg::CallersPath path;
    pg::execute(statement);
}

// What could change the partition within the exchange: the commands call event triggers. The
// comparison would hold readers up for some more milliseconds where there are none.
bool has_event_triggers() {
    return !pg::query("SELECT FROM pg_event_trigger WHERE evtenabled <> 'D' LIMIT 1", {}).empty();
}

// Both tables have one name and their indexes have one name each, in two
// schemas: nothing has to be renamed. The bounds constraint on the shadow
// implies the partition's, and a proof on the DEFAULT sibling that it has no row
// of it, so ATTACH does not scan.
Oid exchange(const SwapRequest &request, const Leaf &leaf) {
    const std::string parent = pg::query_row("SELECT $1::regclass::text", {leaf.parent}).text(0);
    const std::string live = leaf.qualified();
    const std::string shadow = pg::quote_qualified(new_schema(request.job), leaf.name);
    const SwapExtras extras = swap_extras(request.job, leaf);
    const bool watched = has_event_triggers();
    const std::vector<std::string> before =
        watched ? definition_of(leaf.oid, request.proofs()) : std::vector<std::string>();
    // Proofs on a DEFAULT do not go with its old rows: those that are still needed are made anew.
    for (const Oid proof : request.proofs())
        drop_proof(proof);
    execute_on_tree(fmt::format("ALTER TABLE {} DETACH PARTITION {}", parent, live));
    for (const auto &statement : extras.before_move)
        pg::execute(statement);
    pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}", live, old_schema(request.job)));
    pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}", shadow, pg::quote_identifier(leaf.schema)));
    {
        // ATTACH compares the expressions of indexes; before 17 their functions are found by it.
        const pg::CallersPath path;
        const pg::KnownIndexes known({leaf.parent, request.shadow});
        execute_on_tree(fmt::format("ALTER TABLE {} ATTACH PARTITION {} {}", parent, live, leaf.bound));
    }
    pg::execute(fmt::format("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", live, kBoundsConstraint));
    for (const auto &statement : extras.after_attach)
        pg::execute(statement);
    drop_proof(request.proof);
    if (watched)
        check_definition(leaf, request.shadow, before);
    return leaf.oid;
}

// A lock on the leaf alone would let writers through the parent wait while they hold
// ROW EXCLUSIVE on it, which DETACH needs exclusively. EXCLUSIVE, since a weaker mode
// lets SELECT FOR UPDATE in, whose statement may go on to write and would then wait
// with what it has. It conflicts with itself: two builds that keep writers out of one
// parent could never swap beside each other.
std::vector<TableLock> locks_against_writers(const Leaf &leaf) {
    std::vector<TableLock> locks = share_ancestors(leaf.parent);
    locks.push_back({leaf.parent, LockMode::exclusive});
    locks.push_back({leaf.oid, LockMode::exclusive});
    return locks;
}

// A proof that a large DEFAULT sibling holds no row of the partition. Adding it
// takes ACCESS EXCLUSIVE on the DEFAULT for a moment, bounded by lock_timeout;
// validating it SHARE UPDATE EXCLUSIVE for a scan.
Preparation prepare(SwapRequest &request, const Leaf &leaf, std::vector<TableLock> &locks) {
    const auto sibling = default_sibling(leaf);
    const Proof proof = proof_state(leaf, request.proof);
    if (!sibling || proof == Proof::not_needed || proof == Proof::valid)
        return Preparation::complete;
    check_owner("table", *sibling);
    if (proof == Proof::added) {
        locks = {{*sibling, LockMode::share_update_exclusive}};
        if (!lock_politely(locks, request.lock_timeout))
            return Preparation::locked_out;
        validate_proof(request.proof);
        return Preparation::again;
    }
    locks = locks_for_proof(leaf.parent, *sibling);
    request.proof = add_proof(request.job, request.ordinal, leaf, request.lock_timeout);
    return request.proof == kNoOid ? Preparation::locked_out : Preparation::again;
}

bool prepared(const SwapRequest &request, const Leaf &leaf) {
    const Proof proof = proof_state(leaf, request.proof);
    return proof == Proof::not_needed || proof == Proof::valid;
}

// Each of its commands asks for what it needs.
void check(const SwapRequest &, const Leaf &) {}

} // namespace

const SwapMethod kAttach{check_rights,   create_shadow, carry_after_load,      true, prepare, prepared, check,
                         tables_to_lock, exchange,      locks_against_writers, false};

} // namespace partbackfill::engine
