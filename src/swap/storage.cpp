#include "partbackfill/swap/method.hpp"

#include <optional>

#include <fmt/format.h>

#include "partbackfill/catalog/referring_keys.hpp"
#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/load/loader.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/table_owner.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/foreign_keys.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/storage_shadow.hpp"
#include "partbackfill/swap/file_exchange.hpp"
#include "partbackfill/swap/kept_bounds.hpp"
#include "partbackfill/swap/foreign_keys.hpp"
#include "partbackfill/swap/shadow_comparison.hpp"
#include "partbackfill/swap/storage_refusals.hpp"

namespace partbackfill::swap {

namespace {

std::vector<Hazard> warnings(const std::vector<Oid> &leaves) {
    return find_hazards(R"SQL(
        SELECT leaf.oid::bigint, warning.text
        FROM unnest($1::oid[]) AS leaf (oid)
        CROSS JOIN LATERAL (
            SELECT 1, format('the swap locks table %s, to which foreign key %I refers', k.confrelid::regclass, k.conname)
            FROM pg_constraint AS k WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND k.convalidated
            UNION ALL
            SELECT 2, format('the source must give every key of the partition, since foreign key %I of table %s may '
                             'refer to it', COALESCE(up.conname, k.conname), k.conrelid::regclass)
            FROM )SQL" + catalog::referring_keys("leaf.oid") +
                            R"SQL( AS k
            LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        ) AS warning (step, text)
        ORDER BY leaf.oid, warning.step, warning.text
    )SQL",
                        {leaves});
}

// No table changes its schema for good.
void check_privileges(const std::vector<Oid> &) {}

// The parent is left alone. No command of the server checks the owner of the partition.
void check_rights(const catalog::Leaf &leaf) {
    catalog::check_owner("partition", leaf.name, leaf.owner);
}

void finish_shadow(const SwapRequest &request, const catalog::Leaf &leaf) {
    shadow::check_referenced_keys(leaf, request.shadow);
}

// Tables to which the partition's foreign keys refer come first, since the exchange drops the
// shadow's copies of the keys. Readers of these tables pass, and so does a session that checks
// a key; a session that deletes a key looks into the leaf next, and has no lock on it while it
// waits. Then comes the leaf, for which readers wait; no session has the shadow, a TOAST table
// or an index open without the leaf. Siblings and parents are not locked at all.
std::vector<locks::TableLock> tables_to_lock(const catalog::Leaf &leaf, Oid shadow) {
    std::vector<locks::TableLock> locks;
    for (const Oid table : shadow::tables_referred_to(shadow))
        locks.push_back({table, locks::LockMode::share_row_exclusive});
    locks.push_back({leaf.oid, locks::LockMode::access_exclusive});
    locks.push_back({shadow, locks::LockMode::access_exclusive});
    const pg::Result parts = pg::query(R"SQL(
        WITH heap (oid) AS (
            SELECT c.oid FROM pg_class AS c WHERE c.oid IN ($1, $2)
            UNION ALL
            SELECT c.reltoastrelid FROM pg_class AS c WHERE c.oid IN ($1, $2) AND c.reltoastrelid <> 0
        )
        SELECT h.oid::bigint FROM heap AS h WHERE h.oid NOT IN ($1, $2)
        UNION ALL
        SELECT i.indexrelid::bigint FROM pg_index AS i JOIN heap AS h ON h.oid = i.indrelid
        ORDER BY 1
    )SQL",
                                       {leaf.oid, shadow});
    for (const pg::Row &row : parts.rows)
        locks.push_back({row.oid(0), locks::LockMode::access_exclusive});
    return locks;
}

// Readers pass until the exchange. The parent is left alone: a writer of another partition does
// not wait. A session that locks rows waits as well: its statement may go on to write, and would
// then wait with the lock that it has on the leaf.
std::vector<locks::TableLock> locks_against_writers(const catalog::Leaf &leaf) {
    return {{leaf.oid, locks::LockMode::exclusive}};
}

// No other table has to be prepared.
Preparation prepare(SwapRequest &, const catalog::Leaf &, std::vector<locks::TableLock> &) {
    return Preparation::complete;
}

bool prepared(const SwapRequest &, const catalog::Leaf &) {
    return true;
}

Preparation prepare_shadow(const SwapRequest &request, const catalog::Leaf &leaf,
                           std::vector<locks::TableLock> &locks) {
    return prepare_foreign_key(request, leaf, shadow::Keys::valid, locks);
}

bool shadow_prepared(const SwapRequest &request, const catalog::Leaf &leaf) {
    return !shadow::next_foreign_key_step(leaf, request.shadow, shadow::Keys::valid);
}

// A row must mean the same under either descriptor. The digests say that both tables are as they
// were when the shadow was made; this is the last check before the files are exchanged.
void check_same_layout(const catalog::Leaf &leaf, Oid shadow) {
    const pg::Result different = pg::query(R"SQL(
        SELECT a.attnum, a.attisdropped, a.atttypid, a.atttypmod, a.attlen, a.attalign, a.attbyval, a.attcollation
        FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0
        EXCEPT ALL
        SELECT a.attnum, a.attisdropped, a.atttypid, a.atttypmod, a.attlen, a.attalign, a.attbyval, a.attcollation
        FROM pg_attribute AS a WHERE a.attrelid = $2 AND a.attnum > 0
    )SQL",
                                           {leaf.oid, shadow});
    const bool as_many = pg::query_row("SELECT (SELECT relnatts FROM pg_class WHERE oid = $1) = (SELECT "
                                       "relnatts FROM pg_class WHERE oid = $2)",
                                       {leaf.oid, shadow})
                             .boolean(0);
    if (!different.empty() || !as_many)
        pg::raise(
            pg::sqlcode::kObjectNotInPrerequisiteState,
            fmt::format("the shadow of partition \"{}\" has other columns than the partition", leaf.name));
}

// Pairs each valid index of the live partition with the index that was made for it. The two are
// equal in all that decides what is in their files.
std::vector<Pair> index_pairs(const catalog::Leaf &leaf, Oid shadow) {
    const pg::Result found = pg::query(R"SQL(
        SELECT li.indexrelid::bigint, COALESCE(mine.indexrelid, 0)::bigint, l.relname
        FROM pg_index AS li
        JOIN pg_class AS l ON l.oid = li.indexrelid
        LEFT JOIN LATERAL (
            SELECT si.indexrelid
            FROM pg_index AS si
            JOIN pg_class AS s ON s.oid = si.indexrelid
            WHERE si.indrelid = $2 AND s.relrewrite = l.oid AND si.indisvalid AND si.indisready AND s.relam = l.relam
              AND si.indnatts = li.indnatts AND si.indnkeyatts = li.indnkeyatts AND si.indkey = li.indkey
              AND si.indisunique = li.indisunique AND si.indnullsnotdistinct = li.indnullsnotdistinct
              AND si.indclass = li.indclass AND si.indcollation = li.indcollation AND si.indoption = li.indoption
              AND pg_get_expr(si.indexprs, si.indrelid) IS NOT DISTINCT FROM pg_get_expr(li.indexprs, li.indrelid)
              AND pg_get_expr(si.indpred, si.indrelid) IS NOT DISTINCT FROM pg_get_expr(li.indpred, li.indrelid)
        ) AS mine ON true
        WHERE li.indrelid = $1
        ORDER BY li.indexrelid
    )SQL",
                                       {leaf.oid, shadow});
    std::vector<Pair> pairs;
    for (const pg::Row &row : found.rows) {
        if (row.oid(1) == kNoOid)
            pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                      fmt::format("index \"{}\" of partition \"{}\" has no equal on the shadow", row.text(2),
                                  leaf.name));
        pairs.push_back({row.oid(0), row.oid(1)});
    }
    return pairs;
}

void check(const SwapRequest &request, const catalog::Leaf &leaf) {
    check_same_layout(leaf, request.shadow);
    check_contents(leaf, request.shadow, request.proofs(), request.constraint != "true");
    index_pairs(leaf, request.shadow);
}

// The statistics of the new rows, and of the expressions of their indexes, move to the live
// partition in pg_statistic.
void take_statistics(const Pair &table, std::vector<Pair> pairs) {
    pairs.push_back(table);
    const pg::AsExtensionOwner as_owner;
    for (const Pair &pair : pairs) {
        pg::execute("DELETE FROM pg_statistic WHERE starelid = $1", {pair.live});
        pg::execute("UPDATE pg_statistic SET starelid = $1 WHERE starelid = $2", {pair.live, pair.shadow});
    }
}

// The data of the shadow's statistics objects moves in pg_statistic_ext_data to the objects of
// the same names on the live partition.
void take_extended_statistics(const Pair &table) {
    {
        const pg::AsExtensionOwner as_owner;
        pg::execute(R"SQL(
            DELETE FROM pg_statistic_ext_data AS d USING pg_statistic_ext AS s
            WHERE d.stxoid = s.oid AND s.stxrelid = $1
        )SQL",
                    {table.live});
        pg::execute(R"SQL(
            UPDATE pg_statistic_ext_data AS d SET stxoid = live.oid
            FROM pg_statistic_ext AS live, pg_statistic_ext AS mine
            WHERE live.stxrelid = $1 AND mine.stxrelid = $2 AND mine.stxname = live.stxname AND d.stxoid = mine.oid
        )SQL",
                    {table.live, table.shadow});
    }
    pg::execute_each(R"SQL(
        SELECT format('DROP STATISTICS %s.%I', s.stxnamespace::regnamespace, s.stxname)
        FROM pg_statistic_ext AS s WHERE s.stxrelid = $1
    )SQL",
                     {table.shadow});
}

Oid exchange(const SwapRequest &request, const catalog::Leaf &leaf) {
    const Pair table{leaf.oid, request.shadow};
    const std::vector<Pair> indexes = index_pairs(leaf, request.shadow);
    exchange_files(table, indexes);
    take_statistics(table, indexes);
    take_extended_statistics(table);
    shadow::drop_foreign_keys(request.shadow);
    if (catalog::relation_entry(request.shadow).schema ==
        shadow::new_schema(request.job)) // or it was kept before
        pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}",
                                pg::quote_qualified(shadow::new_schema(request.job), leaf.name),
                                shadow::old_schema(request.job)));
    return request.shadow;
}

// A table that has exchanged its files with the partition is still a shadow of it, but has no statistics and
// no foreign keys, which `prepare` adds. The live partition is locked for the comparison only.
Preparation adopt(const SwapRequest &request, const catalog::Leaf &leaf,
                  std::vector<locks::TableLock> &locks) {
    // The files go to the owner of the other table.
    if (catalog::relation_entry(request.shadow).owner != leaf.owner)
        pg::raise(
            pg::sqlcode::kObjectNotInPrerequisiteState,
            fmt::format("the table with the old rows of partition \"{}\" has another owner", leaf.name));
    if (const Preparation bounds = adopt_bounds(request, leaf, locks); bounds != Preparation::complete)
        return bounds;
    locks = {{request.shadow, locks::LockMode::share_update_exclusive}};
    if (!locks::lock_politely(locks, request.lock_timeout))
        return Preparation::locks_not_granted;
    shadow::adopt_storage_shadow(leaf, request.shadow, catalog::relation_entry(request.shadow).schema);
    load::analyze(request.shadow);
    locks = {{leaf.oid, locks::LockMode::access_share}};
    if (!locks::lock_politely(locks, request.lock_timeout))
        return Preparation::locks_not_granted;
    check(request, leaf);
    const pg::SnapshotScope snapshot;
    shadow::check_referenced_keys(leaf, request.shadow);
    return Preparation::complete;
}

} // namespace

const SwapMethod kStorage{
    .name = "storage",
    .recommendation = "Use swap => 'storage', by which the partition keeps everything but its rows.",
    .refusals = storage_refusals,
    .warnings = warnings,
    .check_privileges = check_privileges,
    .check_rights = check_rights,
    .create_shadow = shadow::create_storage_shadow,
    .finish_shadow = finish_shadow,
    .adopt = adopt,
    .prepare = prepare,
    .prepare_shadow = prepare_shadow,
    .prepared = prepared,
    .shadow_prepared = shadow_prepared,
    .check = check,
    .locks_parent = false,
    .tables_to_lock = tables_to_lock,
    .exchange = exchange,
    .locks_against_writers = locks_against_writers,
    .blocks_writers_at_last = true,
};

} // namespace partbackfill::swap
