#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_extension.h"
#include "nodes/makefuncs.h"
#include "partitioning/partbounds.h"
#include "utils/rel.h"
}

#include <fmt/format.h>

#include "partbackfill/catalog/bound.hpp"
#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/shadow/check_constraint.hpp"
#include "partbackfill/shadow/default_sibling.hpp"

namespace partbackfill::shadow {

namespace {

// A name that no constraint of the table has: the owner of the table may have a CHECK of the first choice.
std::string free_proof_name(std::int64_t job, int ordinal, Oid sibling) {
    const std::string name = fmt::format("partbackfill_{}_{}", job, ordinal);
    for (int suffix = 0;; suffix++) {
        std::string candidate = suffix == 0 ? name : fmt::format("{}_{}", name, suffix);
        if (pg::query("SELECT FROM pg_constraint WHERE conrelid = $1 AND conname = $2", {sibling, candidate})
                .empty())
            return candidate;
    }
}

// Adds the negation of the partition's own bound, exactly as ATTACH will ask for it.
void add_check(Oid parent_oid, Oid leaf, Oid sibling_oid, const char *name) {
    Relation parent = table_open(parent_oid, AccessShareLock);
    Relation sibling = table_open(sibling_oid, NoLock);
    List *quals = get_proposed_default_constraint(get_qual_from_partbound(parent, catalog::bound_of(leaf)));
    quals = map_partition_varattnos(quals, 1, sibling, parent);
    add_constraints(sibling, list_make1(cooked_check(name, expression_of(quals), false)));
    table_close(sibling, NoLock);
    table_close(parent, NoLock);
}

// Makes the CHECK go with the extension: when that is dropped under a job, nothing else would drop
// the CHECK.
void drop_with_extension(Oid proof) {
    const Oid extension = pg::find_extension().oid;
    pg::guard([&] {
        const ObjectAddress depends{ConstraintRelationId, proof, 0};
        const ObjectAddress on{ExtensionRelationId, extension, 0};
        recordDependencyOn(&depends, &on, DEPENDENCY_AUTO_EXTENSION);
    });
}

} // namespace

std::optional<Oid> default_sibling(const catalog::Leaf &leaf) {
    const pg::Result found = pg::query("SELECT partdefid::bigint FROM pg_partitioned_table WHERE partrelid = "
                                       "$1 AND partdefid NOT IN (0, $2)",
                                       {leaf.parent, leaf.oid});
    if (found.empty())
        return std::nullopt;
    return found.rows.front().oid(0);
}

Proof proof_state(const catalog::Leaf &leaf, Oid proof) {
    const auto sibling = default_sibling(leaf);
    if (!sibling)
        return Proof::not_needed;
    const pg::Result found = pg::query(R"SQL(
        SELECT c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE')
                   AND pg_relation_size(c.oid) > $3 * current_setting('block_size')::bigint,
               k.convalidated
        FROM pg_class AS c
        LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.oid = $2
        WHERE c.oid = $1
    )SQL",
                                       {*sibling, proof, kSmallPages});
    if (found.empty())
        return Proof::not_needed;
    const pg::Row &row = found.rows.front();
    if (!row.is_null(1))
        return row.boolean(1) ? Proof::valid : Proof::added;
    return row.boolean(0) ? Proof::missing : Proof::not_needed;
}

std::vector<locks::TableLock> locks_for_proof(Oid parent, Oid sibling) {
    return {{sibling, locks::LockMode::access_exclusive}, {parent, locks::LockMode::access_share}};
}

Oid add_proof(std::int64_t job, int ordinal, const catalog::Leaf &leaf, std::chrono::milliseconds limit) {
    const auto sibling = default_sibling(leaf);
    // The lock is queued for on the sibling only; the parent must be free at once.
    if (!sibling || !locks::lock_politely(locks_for_proof(leaf.parent, *sibling), limit))
        return kNoOid;
    const std::string name = free_proof_name(job, ordinal, *sibling);
    {
        const pg::CallersPath path;
        pg::guard([&] { add_check(leaf.parent, leaf.oid, *sibling, name.c_str()); });
    }
    const Oid proof =
        pg::query_row("SELECT oid::bigint FROM pg_constraint WHERE conrelid = $1 AND conname = $2",
                      {*sibling, name})
            .oid(0);
    drop_with_extension(proof);
    return proof;
}

void validate_proof(Oid proof) {
    for (const pg::Row &row : pg::query(R"SQL(
        SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname)
        FROM pg_constraint AS k
        WHERE k.oid = $1 AND k.contype = 'c' AND k.conrelid <> 0 AND starts_with(k.conname::text, 'partbackfill_')
    )SQL",
                                        {proof})
                                  .rows) {
        const pg::CallersPath path; // validation calls the functions of the key
        pg::execute(row.text(0));
    }
}

// Drops by the row in the catalog: what a job has put on a table goes, even when the job's owner has lost the
// right to alter the table.
void drop_proof(Oid proof, Oid table) {
    for (const Oid left : proofs_left({proof}))
        if (table == kNoOid || tables_of_proofs({left}) == std::vector<Oid>{table})
            catalog::drop_constraints({left});
}

std::vector<Oid> proofs_left(const std::vector<Oid> &recorded) {
    return pg::query(R"SQL(
        SELECT k.oid::bigint
        FROM pg_constraint AS k
        WHERE k.oid = ANY ($1) AND k.contype = 'c' AND k.conrelid <> 0 AND starts_with(k.conname::text, 'partbackfill_')
    )SQL",
                     {recorded})
        .oids();
}

void drop_copies_of_proofs(Oid shadow, const std::vector<Oid> &proofs) {
    pg::execute_each(R"SQL(
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
        FROM pg_constraint AS k
        JOIN pg_constraint AS proof ON proof.conname = k.conname
        WHERE k.conrelid = $1 AND k.contype = 'c' AND proof.oid = ANY ($2)
    )SQL",
                     {shadow, proofs});
}

std::vector<Oid> tables_of_proofs(const std::vector<Oid> &proofs) {
    return pg::query("SELECT DISTINCT conrelid::bigint FROM pg_constraint WHERE oid = ANY "
                     "($1) AND conrelid <> 0 ORDER BY 1",
                     {proofs})
        .oids();
}

} // namespace partbackfill::shadow
