#include "partbackfill/checks/lock_table.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/partition_tree.hpp"
#include "partbackfill/pg/lock_table.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::checks {

namespace {

// The part of the lock table that one transaction may take: other sessions need some, too.
constexpr double kUsable = 0.8;
// Locks of a swap beside those on tables and indexes: the claim, the triggers of the write capture, and a
// share of those on schemas and catalogs.
constexpr int kOther = 4;

// Both the partition and its shadow are locked, with their indexes and TOAST tables, and the tables to which
// foreign keys refer.
long locks_to_swap(const std::vector<Oid> &leaves) {
    const std::string sql = R"SQL(
        SELECT COALESCE(sum($2 + 2 * (1 + CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE 2 END
                                        + (SELECT count(*) FROM pg_index AS i WHERE i.indrelid = c.oid))), 0)::bigint
               + (SELECT count(DISTINCT t.oid)
                  FROM (SELECT DISTINCT k.confrelid FROM pg_constraint AS k
                        WHERE k.contype = 'f' AND k.conrelid = ANY ($1)) AS k
                  CROSS JOIN LATERAL )SQL" +
                            catalog::partition_tree("k.confrelid") + R"SQL( AS t)
        FROM pg_class AS c
        WHERE c.oid = ANY ($1)
    )SQL";
    return pg::query_row(sql, {leaves, kOther}).integer(0);
}

} // namespace

void check_room_for_locks(const std::vector<Oid> &leaves) {
    const long needed = locks_to_swap(leaves);
    const long size = pg::lock_table_size();
    const auto usable = static_cast<long>(kUsable * static_cast<double>(size));
    if (needed <= usable)
        return;
    pg::raise(
        pg::sqlcode::kConfigurationLimit,
        fmt::format("cannot swap {} partitions in one transaction", leaves.size()),
        fmt::format("That takes about {} locks; the server's lock table has room for {}, of which {} may be "
                    "used.",
                    needed, size, usable),
        fmt::format("Use publish => 'each', or increase max_locks_per_transaction by a factor of {:.1f}.",
                    static_cast<double>(needed) / static_cast<double>(usable) + 0.05));
}

} // namespace partbackfill::checks
