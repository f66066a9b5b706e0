#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/heap.h"
#include "catalog/partition.h"
#include "nodes/makefuncs.h"
#include "partitioning/partbounds.h"
#include "utils/rel.h"
}

#include <fmt/format.h>

#include "partbackfill/engine/bound.hpp"
#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

namespace {

// A DEFAULT of fewer pages is scanned in less time than a CHECK takes to add
// and drop.
constexpr std::int64_t kSmallPages = 64;

std::string proof_name(std::int64_t job, int ordinal) { return fmt::format("partbackfill_{}_{}", job, ordinal); }

std::string qualified_name(Oid table) { return pg::query_row("SELECT $1::regclass::text", {table}).text(0); }

// The negation of the partition's own bound, exactly as ATTACH will ask for it.
void add_check(Oid parent_oid, Oid leaf, Oid sibling_oid, const char *name) {
    Relation parent = table_open(parent_oid, AccessShareLock);
    Relation sibling = table_open(sibling_oid, NoLock);
    List *quals = get_proposed_default_constraint(get_qual_from_partbound(parent, bound_of(leaf)));
    quals = map_partition_varattnos(quals, 1, sibling, parent);
    auto *constraint = makeNode(Constraint);
    constraint->contype = CONSTR_CHECK;
    constraint->conname = pstrdup(name);
    constraint->location = -1;
    constraint->cooked_expr = nodeToString(make_ands_explicit(quals));
    constraint->initially_valid = false;
    constraint->skip_validation = true;
    pg::mark_enforced(constraint);
    AddRelationNewConstraints(sibling, NIL, list_make1(constraint), false, true, false, nullptr);
    table_close(sibling, NoLock);
    table_close(parent, NoLock);
}

} // namespace

std::optional<Oid> default_sibling(const Leaf &leaf) {
    const pg::Result found = pg::query(
        "SELECT partdefid::bigint FROM pg_partitioned_table WHERE partrelid = $1 AND partdefid NOT IN (0, $2)",
        {leaf.parent, leaf.oid});
    if (found.empty())
        return std::nullopt;
    return found.rows.front().oid(0);
}

Proof proof_state(std::int64_t job, int ordinal, const Leaf &leaf) {
    const auto sibling = default_sibling(leaf);
    if (!sibling)
        return Proof::not_needed;
    // A DEFAULT that is partitioned itself, or foreign, is left to ATTACH.
    const pg::Result found = pg::query(R"SQL(
        SELECT c.relkind = 'r'
                   AND pg_relation_size(c.oid) > $3 * current_setting('block_size')::bigint,
               k.convalidated
        FROM pg_class AS c
        LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.conname = $2
        WHERE c.oid = $1
    )SQL",
                                       {*sibling, proof_name(job, ordinal), kSmallPages});
    if (found.empty())
        return Proof::not_needed;
    const pg::Row &row = found.rows.front();
    if (!row.is_null(1))
        return row.boolean(1) ? Proof::valid : Proof::added;
    return row.boolean(0) ? Proof::missing : Proof::not_needed;
}

bool add_proof(std::int64_t job, int ordinal, const Leaf &leaf, std::chrono::milliseconds limit) {
    const auto sibling = default_sibling(leaf);
    if (!sibling)
        return true;
    std::chrono::steady_clock::time_point had;
    if (!lock_exclusively({*sibling}, limit, &had))
        return false;
    const std::string name = proof_name(job, ordinal);
    pg::guard([&] { add_check(leaf.parent, leaf.oid, *sibling, name.c_str()); });
    return true;
}

void validate_proof(std::int64_t job, int ordinal, const Leaf &leaf) {
    if (const auto sibling = default_sibling(leaf))
        pg::execute(fmt::format("ALTER TABLE {} VALIDATE CONSTRAINT {}", qualified_name(*sibling),
                                proof_name(job, ordinal)));
}

void drop_proof(std::int64_t job, int ordinal, const Leaf &leaf) {
    const auto sibling = default_sibling(leaf);
    if (sibling && proof_state(job, ordinal, leaf) != Proof::not_needed)
        pg::execute(fmt::format("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", qualified_name(*sibling),
                                proof_name(job, ordinal)));
}

std::vector<Oid> tables_with_proofs(std::int64_t job) {
    std::vector<Oid> tables;
    const pg::Result found = pg::query(
        "SELECT DISTINCT conrelid::bigint FROM pg_constraint WHERE conrelid <> 0 AND conname ~ $1 ORDER BY 1",
        {fmt::format("^partbackfill_{}_[0-9]+$", job)});
    for (const pg::Row &row : found.rows)
        tables.push_back(row.oid(0));
    return tables;
}

void drop_proofs(std::int64_t job) {
    const pg::Result found = pg::query(R"SQL(
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
        FROM pg_constraint WHERE conrelid <> 0 AND conname ~ $1
    )SQL",
                                       {fmt::format("^partbackfill_{}_[0-9]+$", job)});
    for (const pg::Row &row : found.rows)
        pg::execute(row.text(0));
}

} // namespace partbackfill::engine
