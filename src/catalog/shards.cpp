#include "partbackfill/catalog/shards.hpp"

#include <fmt/format.h>

#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

bool has_citus() {
    return pg::query_row("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL", {}).boolean(0);
}

bool is_distributed(Oid table) {
    return has_citus() &&
           !pg::query("SELECT FROM pg_dist_partition AS d WHERE d.logicalrelid = $1", {table}).empty();
}

// A shard is named for its table and its number, as Citus itself recognizes it.
std::int64_t shard_of(Oid table) {
    if (!has_citus())
        return kNoShard;
    const pg::Result found = pg::query(R"SQL(
        SELECT substring(c.relname FROM '_([0-9]+)$')::bigint
        FROM pg_class AS c
        WHERE c.oid = $1 AND relation_is_a_known_shard(c.oid)
    )SQL",
                                       {table});
    return found.empty() ? kNoShard : found.rows.front().integer(0);
}

std::optional<ShardRows> rows_of_shard(std::int64_t shard) {
    const pg::Result found = pg::query(R"SQL(
        SELECT d.partmethod, COALESCE(column_to_column_name(d.logicalrelid, d.partkey), ''), s.shardminvalue, s.shardmaxvalue
        FROM pg_dist_shard AS s JOIN pg_dist_partition AS d ON d.logicalrelid = s.logicalrelid
        WHERE s.shardid = $1 AND d.partmethod IN ('h', 'n')
    )SQL",
                                       {shard}, pg::Read::newest);
    if (found.empty())
        return std::nullopt;
    const pg::Row &row = found.rows.front();
    if (row.text(0) == "n")
        return ShardRows{"", "true"};
    return ShardRows{row.text(1), fmt::format("pg_catalog.worker_hash({}) BETWEEN {} AND {}",
                                              pg::quote_identifier(row.text(1)), row.text(2), row.text(3))};
}

ShardPlaces places_of_shard(std::int64_t shard) {
    const pg::Result found = pg::query(R"SQL(
        SELECT COALESCE(bool_or(p.groupid = own.groupid), false), count(*) FILTER (WHERE p.groupid <> own.groupid),
               COALESCE(string_agg(n.nodename || ':' || n.nodeport, ', ' ORDER BY n.nodename, n.nodeport)
                        FILTER (WHERE p.groupid <> own.groupid), '')
        FROM pg_dist_local_group AS own
        LEFT JOIN pg_dist_placement AS p ON p.shardid = $1 AND p.shardstate = 1
        LEFT JOIN pg_dist_node AS n ON n.groupid = p.groupid AND n.noderole = 'primary'
    )SQL",
                                       {shard}, pg::Read::newest);
    const pg::Row &row = found.rows.front();
    return {row.boolean(0), static_cast<int>(row.integer(1)), row.text(2)};
}

bool is_in_place(Oid table, std::int64_t shard) {
    if (!has_citus())
        return shard == kNoShard;
    if (shard_of(table) != shard)
        return false;
    return shard == kNoShard ? !is_distributed(table) : places_of_shard(shard).here;
}

bool has_local_hash(Oid table, const std::string &column) {
    return !pg::query(R"SQL(
        WITH RECURSIVE part (type) AS (
            SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attname = $2
            UNION
            SELECT inner_type.oid
            FROM part
            JOIN pg_type AS t ON t.oid = part.type
            CROSS JOIN LATERAL (
                SELECT t.typbasetype
                UNION ALL
                SELECT t.typelem
                UNION ALL
                SELECT r.rngsubtype FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
                UNION ALL
                SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
            ) AS inner_type (oid)
            WHERE inner_type.oid <> 0
        )
        SELECT FROM part JOIN pg_type AS t ON t.oid = part.type
        WHERE t.typtype = 'e' OR (t.typname ~ '^reg' AND t.typnamespace = 'pg_catalog'::regnamespace)
        LIMIT 1
    )SQL",
                      {table, column})
                .empty();
}

} // namespace partbackfill::catalog
