#include "partbackfill/engine/swap.hpp"

#include <optional>

#include <fmt/format.h>

#include "partbackfill/engine/foreign_keys.hpp"
#include "partbackfill/engine/likeness.hpp"
#include "partbackfill/engine/rights.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/storage_exchange.hpp"
#include "partbackfill/engine/storage_shadow.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings.hpp"
#include "partbackfill/pg/table_owner.hpp"

namespace partbackfill::engine {

namespace {

// No command of the server's checks this here. The parent is left alone.
void check_rights(const Leaf &leaf) {
    check_owner("partition", leaf.name, leaf.owner);
}

void finish(std::int64_t, const Leaf &leaf, Oid shadow, const std::vector<Oid> &) {
    check_referenced_keys(leaf, shadow);
}

// Tables that the partition's foreign keys refer to come first: the shadow's own
// copies of the keys go with the exchange. Their readers pass, and so does whoever
// checks a key; whoever deletes one looks into the leaf next, and holds nothing of
// it while he waits. Then the leaf, for which its readers wait; nobody has the
// others open without it. Siblings and parents are not locked at all.
std::vector<TableLock> tables_to_lock(const Leaf &leaf, Oid shadow) {
    std::vector<TableLock> locks;
    for (const Oid table : tables_referred_to(shadow))
        locks.push_back({table, LockMode::share_row_exclusive});
    locks.push_back({leaf.oid, LockMode::access_exclusive});
    locks.push_back({shadow, LockMode::access_exclusive});
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
        locks.push_back({row.oid(0), LockMode::access_exclusive});
    return locks;
}

// Readers are let through until the exchange. The parent is left alone: whoever
// writes to another partition does not wait. Who locks rows waits as well: its
// statement may go on to write, and would wait with what it has of the leaf.
std::vector<TableLock> locks_against_writers(const Leaf &leaf) {
    return {{leaf.oid, LockMode::exclusive}};
}

Preparation prepare(SwapRequest &request, const Leaf &leaf, std::vector<TableLock> &locks) {
    const auto step = next_foreign_key_step(leaf, request.shadow);
    if (!step)
        return Preparation::complete;
    check_may_reference(step->locks.front().table);
    locks = step->locks;
    locks.push_back({request.shadow, LockMode::share_row_exclusive});
    if (!lock_politely(locks, request.lock_timeout))
        return Preparation::locked_out;
    // What the step changes is what it is known by from then on.
    if (!request.untouched())
        return Preparation::touched;
    const pg::CallersPath path;
    std::optional<pg::AsTableOwner> as_owner;
    if (step->validates)
        as_owner.emplace(request.shadow);
    return run_bounded({step->statement}, request.lock_timeout) ? Preparation::again
                                                                : Preparation::locked_out;
}

// A row must mean the same under either descriptor. Both are as they were when the
// shadow was made; this is the last look before the files are exchanged.
void check_same_layout(const Leaf &leaf, Oid shadow) {
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

// Each valid index of the live partition with the one that was made for it, equal
// in everything that decides what is in its file.
std::vector<Pair> index_pairs(const Leaf &leaf, Oid shadow) {
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

bool prepared(const SwapRequest &request, const Leaf &leaf) {
    return !next_foreign_key_step(leaf, request.shadow);
}

void check(const SwapRequest &request, const Leaf &leaf) {
    check_same_layout(leaf, request.shadow);
    check_contents(leaf, request.shadow, request.proofs(), request.constraint != "true");
    index_pairs(leaf, request.shadow);
}

// pg_statistic: what ANALYZE found out about the new rows, and about the
// expressions of their indexes, goes with them.
void take_statistics(const Pair &table, std::vector<Pair> pairs) {
    pairs.push_back(table);
    std::vector<Oid> live;
    std::vector<Oid> shadow;
    for (const Pair &pair : pairs) {
        live.push_back(pair.live);
        shadow.push_back(pair.shadow);
    }
    const pg::AsExtensionOwner as_owner;
    pg::execute("DELETE FROM pg_statistic WHERE starelid = ANY ($1)", {live});
    pg::execute(R"SQL(
        UPDATE pg_statistic AS s SET starelid = pair.live
        FROM unnest($1::oid[], $2::oid[]) AS pair (live, shadow)
        WHERE s.starelid = pair.shadow
    )SQL",
                {live, shadow});
}

// pg_statistic_ext_data: the data of the shadow's statistics objects, which have
// the names of the live partition's, becomes theirs.
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
    const pg::Result objects = pg::query(R"SQL(
        SELECT format('DROP STATISTICS %s.%I', s.stxnamespace::regnamespace, s.stxname)
        FROM pg_statistic_ext AS s WHERE s.stxrelid = $1
    )SQL",
                                         {table.shadow});
    for (const pg::Row &row : objects.rows)
        pg::execute(row.text(0));
}

Oid exchange(const SwapRequest &request, const Leaf &leaf) {
    const Pair table{leaf.oid, request.shadow};
    const std::vector<Pair> indexes = index_pairs(leaf, request.shadow);
    exchange_storage(table, indexes);
    take_statistics(table, indexes);
    take_extended_statistics(table);
    drop_foreign_keys(request.shadow);
    pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}",
                            pg::quote_qualified(new_schema(request.job), leaf.name),
                            old_schema(request.job)));
    return request.shadow;
}

} // namespace

const SwapMethod kStorage{
    check_rights, create_storage_shadow, finish, false, prepare, prepared, check, tables_to_lock,
    exchange,     locks_against_writers, true};

} // namespace partbackfill::engine
