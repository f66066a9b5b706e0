#include "partbackfill/swap/method.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/table_owner.hpp"
#include "partbackfill/shadow/attach_shadow.hpp"
#include "partbackfill/shadow/carry.hpp"
#include "partbackfill/shadow/default_sibling.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/shadow/foreign_keys.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/swap/attach_refusals.hpp"
#include "partbackfill/swap/kept_bounds.hpp"
#include "partbackfill/swap/foreign_keys.hpp"
#include "partbackfill/swap/shadow_comparison.hpp"

namespace partbackfill::swap {

namespace {

// Above this many siblings ATTACH needs a noticeable time, under its locks, to prove that a
// DEFAULT partition has only rows that its constraint allows: the proof grows with the
// square of their number (1.5 s at 1,000).
constexpr int kManySiblings = 300;

std::vector<Hazard> warnings(const std::vector<Oid> &leaves) {
    return find_hazards(R"SQL(
        SELECT leaf.oid::bigint, warning.text
        FROM (SELECT i.inhrelid AS oid, i.inhparent AS parent, NULLIF(p.partdefid, 0) AS default_oid
              FROM pg_inherits AS i
              JOIN pg_partitioned_table AS p ON p.partrelid = i.inhparent
              WHERE i.inhrelid = ANY ($1)) AS leaf
        CROSS JOIN LATERAL (
            SELECT 0, format('the swap locks table %s, to which foreign key %I refers', k.confrelid::regclass, k.conname)
            FROM pg_constraint AS k
            LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
            WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND up.conrelid IS DISTINCT FROM k.conrelid
            UNION ALL
            SELECT 1, format('DEFAULT partition %s (%s) is scanned before the swap, to prove that it has no row of '
                             'the partition', d.oid::regclass, pg_size_pretty(pg_relation_size(d.oid)))
            FROM pg_class AS d
            WHERE d.oid = leaf.default_oid AND d.oid <> leaf.oid AND d.relkind = 'r'
              AND pg_relation_size(d.oid) > $2 * current_setting('block_size')::bigint
            UNION ALL
            SELECT 2, format('is the DEFAULT partition beside %s others; its swap holds its locks longer', others.count)
            FROM (SELECT count(*) AS count FROM pg_inherits AS i
                  WHERE i.inhparent = leaf.parent AND i.inhrelid <> leaf.oid) AS others
            WHERE leaf.oid = leaf.default_oid AND others.count > $3
        ) AS warning (step, text)
        ORDER BY leaf.oid, warning.step, warning.text
    )SQL",
                        {leaves, shadow::kSmallPages, kManySiblings});
}

// SET SCHEMA asks for CREATE on the schemas to which the shadow and its statistics objects
// are moved.
void check_privileges(const std::vector<Oid> &leaves) {
    const pg::Result schemas = pg::query(R"SQL(
        SELECT DISTINCT n.nspname
        FROM pg_class AS c
        LEFT JOIN pg_statistic_ext AS s ON s.stxrelid = c.oid
        JOIN pg_namespace AS n ON n.oid IN (c.relnamespace, s.stxnamespace)
        WHERE c.oid = ANY ($1) AND NOT has_schema_privilege(n.oid, 'CREATE')
        ORDER BY n.nspname
    )SQL",
                                         {leaves});
    if (!schemas.empty())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "permission denied for schema " + pg::quote_identifier(schemas.rows.front().text(0)),
                  "The rebuilt partition and its statistics objects have to be moved into the schemas of the "
                  "old ones.",
                  "Grant CREATE on the schema.");
}

// DETACH and ATTACH ask for the owner of both tables.
void check_rights(const catalog::Leaf &leaf) {
    catalog::check_owner("table", leaf.parent);
    catalog::check_owner("partition", leaf.name, leaf.owner);
}

void finish_shadow(const SwapRequest &request, const catalog::Leaf &leaf) {
    const std::vector<Oid> proofs = request.proofs();
    shadow::carry_after_load(request.job, leaf, request.shadow, proofs);
    // After a change of the partition it is built again; another difference would come back with each build.
    check_same_as_live(leaf, request.shadow, proofs, [&] {
        std::string known = request.definition_digest;
        return catalog::matches_definition_digest(request.live, request.shadow, proofs, known);
    });
}

// Tables to which foreign keys refer come first: readers of these pass, and a session that waits for
// one of them as it deletes a key has no lock on the partition yet. The parent comes before the
// partitions: a session that reads or writes through the parent waits there, once, and holds no lock
// of those that follow. The tables above the parent are only read, but locked before it, in the order
// in which the server's commands lock a tree.
std::vector<locks::TableLock> tables_to_lock(const catalog::Leaf &leaf, Oid shadow) {
    std::vector<locks::TableLock> locks;
    for (const Oid table : shadow::tables_of_keys(leaf))
        locks.push_back({table, locks::LockMode::share_row_exclusive});
    const std::vector<locks::TableLock> ancestors = locks::share_ancestors(leaf.parent);
    locks.insert(locks.end(), ancestors.begin(), ancestors.end());
    locks.push_back({leaf.parent, locks::LockMode::access_exclusive});
    locks.push_back({leaf.oid, locks::LockMode::access_exclusive});
    if (const auto sibling = shadow::default_sibling(leaf))
        locks.push_back({*sibling, locks::LockMode::access_exclusive});
    locks.push_back({shadow, locks::LockMode::access_exclusive});
    return locks;
}

// The server plans the parent's key and the constraints of both tables.
void execute_on_tree(const std::string &statement) {
    const pg::CallersPath path;
    pg::execute(statement);
}

// Event triggers, which the commands call, could change the partition within the exchange. The
// comparison is left out where there are none: it would hold readers up for some milliseconds.
bool has_event_triggers() {
    return !pg::query("SELECT FROM pg_event_trigger WHERE evtenabled <> 'D' LIMIT 1", {}).empty();
}

// The schemas between which an exchange moves the tables. A kept table comes back from the schema of the old
// rows, into which the live one cannot be moved before that: it waits in the other schema.
struct Places {
    std::string from;  // where the shadow is
    std::string aside; // where the live partition goes first
    std::string old;
    explicit Places(const SwapRequest &request)
        : from(catalog::relation_entry(request.shadow).schema), aside(shadow::old_schema(request.job)),
          old(aside) {
        if (from == old)
            aside = shadow::new_schema(request.job);
    }
};

void execute_all(const std::vector<std::string> &statements) {
    for (const auto &statement : statements)
        pg::execute(statement);
}

void set_schema(const std::string &schema, const std::string &name, const std::string &to) {
    pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}", pg::quote_qualified(schema, name),
                            pg::quote_identifier(to)));
}

// Both tables have the same name, and so have their indexes, in two schemas: nothing has to be
// renamed.
void exchange_places(const catalog::Leaf &leaf, const Places &places, const shadow::SwapExtras &extras) {
    const std::string parent = catalog::relation_entry(leaf.parent).qualified();
    execute_on_tree(fmt::format("ALTER TABLE {} DETACH PARTITION {}", parent, leaf.qualified()));
    execute_all(extras.before_move);
    set_schema(leaf.schema, leaf.name, places.aside);
    set_schema(places.from, leaf.name, leaf.schema);
    if (places.aside != places.old)
        set_schema(places.aside, leaf.name, places.old);
    execute_all(extras.to_old);
}

// The bounds constraint of the shadow implies the partition constraint, and a proof on
// the DEFAULT sibling says that it has no row of the partition, so that ATTACH does not scan. Foreign
// keys of the old table would keep others from deleting what the kept rows refer to; those of the
// shadow become parts of the parent's, or stay the partition's own.
Oid exchange(const SwapRequest &request, const catalog::Leaf &leaf) {
    const std::string parent = catalog::relation_entry(leaf.parent).qualified();
    const std::string live = leaf.qualified();
    const Places places(request);
    const shadow::SwapExtras extras = shadow::swap_extras(request.job, leaf, places.from, places.aside);
    const std::vector<shadow::AdoptedKey> keys = shadow::keys_to_adopt(leaf, request.shadow);
    const bool watched = has_event_triggers();
    const std::vector<std::string> before =
        watched ? definition_of(leaf.oid, request.proofs()) : std::vector<std::string>();
    // The old rows of a DEFAULT keep no proof: a proof that is still needed is made anew.
    for (const Oid proof : request.proofs())
        shadow::drop_proof(proof);
    shadow::drop_keys_of_partition(leaf);
    shadow::drop_action_triggers(keys);
    exchange_places(leaf, places, extras);
    {
        // ATTACH compares the expressions of indexes; before 17 it finds their functions by this path.
        const pg::CallersPath path;
        const pg::KnownIndexes known({leaf.parent, request.shadow});
        execute_on_tree(fmt::format("ALTER TABLE {} ATTACH PARTITION {} {}", parent, live, leaf.bound));
    }
    shadow::check_adopted(leaf, keys);
    pg::execute(fmt::format("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", live, shadow::kBoundsConstraint));
    execute_all(extras.after_attach);
    shadow::drop_proof(request.proof);
    if (watched)
        check_definition(leaf, request.shadow, before);
    return leaf.oid;
}

// A table that was detached has what a shadow has but for the bounds constraint.
Preparation adopt(const SwapRequest &request, const catalog::Leaf &leaf,
                  std::vector<locks::TableLock> &locks) {
    if (const Preparation bounds = adopt_bounds(request, leaf, locks); bounds != Preparation::complete)
        return bounds;
    locks = {{leaf.oid, locks::LockMode::access_share},
             {request.shadow, locks::LockMode::share_update_exclusive}};
    if (!locks::lock_politely(locks, request.lock_timeout))
        return Preparation::locks_not_granted;
    check_same_as_live(leaf, request.shadow, request.proofs(), [] { return true; });
    return Preparation::complete;
}

// With a lock on the leaf alone a writer through the parent would wait with ROW EXCLUSIVE on the
// parent, which DETACH needs exclusively. The mode is EXCLUSIVE because a weaker one lets SELECT
// FOR UPDATE in, whose statement may go on to write and would then wait with the locks that it
// has. EXCLUSIVE conflicts with itself, as it must: two builds that keep writers out of one
// parent could never swap beside each other.
std::vector<locks::TableLock> locks_against_writers(const catalog::Leaf &leaf) {
    std::vector<locks::TableLock> locks = locks::share_ancestors(leaf.parent);
    locks.push_back({leaf.parent, locks::LockMode::exclusive});
    locks.push_back({leaf.oid, locks::LockMode::exclusive});
    return locks;
}

// Proves that a large DEFAULT sibling holds no row of the partition. Adding the proof takes
// ACCESS EXCLUSIVE on the DEFAULT for a moment, bounded by lock_timeout; validating it takes
// SHARE UPDATE EXCLUSIVE for a scan.
Preparation prepare(SwapRequest &request, const catalog::Leaf &leaf, std::vector<locks::TableLock> &locks) {
    const auto sibling = shadow::default_sibling(leaf);
    const shadow::Proof proof = shadow::proof_state(leaf, request.proof);
    if (!sibling || proof == shadow::Proof::not_needed || proof == shadow::Proof::valid)
        return Preparation::complete;
    catalog::check_owner("table", *sibling);
    if (proof == shadow::Proof::added) {
        locks = {{*sibling, locks::LockMode::share_update_exclusive}};
        if (!locks::lock_politely(locks, request.lock_timeout))
            return Preparation::locks_not_granted;
        shadow::validate_proof(request.proof);
        return Preparation::again;
    }
    locks = shadow::locks_for_proof(leaf.parent, *sibling);
    request.proof = shadow::add_proof(request.job, request.ordinal, leaf, request.lock_timeout);
    return request.proof == kNoOid ? Preparation::locks_not_granted : Preparation::again;
}

bool prepared(const SwapRequest &request, const catalog::Leaf &leaf) {
    const shadow::Proof proof = shadow::proof_state(leaf, request.proof);
    return proof == shadow::Proof::not_needed || proof == shadow::Proof::valid;
}

Preparation prepare_shadow(const SwapRequest &request, const catalog::Leaf &leaf,
                           std::vector<locks::TableLock> &locks) {
    return prepare_foreign_key(request, leaf, shadow::Keys::all, locks);
}

bool shadow_prepared(const SwapRequest &request, const catalog::Leaf &leaf) {
    return !shadow::next_foreign_key_step(leaf, request.shadow, shadow::Keys::all);
}

// ATTACH would scan the partition for a foreign key that it does not find. The other commands of the
// exchange raise by themselves.
void check(const SwapRequest &request, const catalog::Leaf &leaf) {
    check_same_keys(leaf, request.shadow);
}

} // namespace

const SwapMethod kAttach{
    .name = "attach",
    .recommendation = nullptr,
    .refusals = attach_refusals,
    .warnings = warnings,
    .check_privileges = check_privileges,
    .check_rights = check_rights,
    .create_shadow = shadow::create_attach_shadow,
    .finish_shadow = finish_shadow,
    .adopt = adopt,
    .prepare = prepare,
    .prepare_shadow = prepare_shadow,
    .prepared = prepared,
    .shadow_prepared = shadow_prepared,
    .check = check,
    .locks_parent = true,
    .tables_to_lock = tables_to_lock,
    .exchange = exchange,
    .locks_against_writers = locks_against_writers,
    .blocks_writers_at_last = false,
};

} // namespace partbackfill::swap
