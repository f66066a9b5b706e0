#include "partbackfill/checks/shards.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::checks {

namespace {

// Other placements hold copies of the rows, or the only ones.
void check_places(std::int64_t shard, const std::string &name) {
    const catalog::ShardPlaces places = catalog::places_of_shard(shard);
    if (!places.here)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("shard \"{}\" is not on this node", name),
                  places.others > 0 ? fmt::format("Shard {} was moved to {}.", shard, places.elsewhere) : "",
                  "Start the job on the node that has it.");
    if (places.others > 0)
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot rebuild shard \"{}\", which has copies", name),
                  fmt::format("Shard {} is on {}, too; a job rebuilds the rows of one node.", shard,
                              places.elsewhere),
                  "Distribute the table with citus.shard_replication_factor = 1.");
}

} // namespace

std::int64_t check_shard(catalog::Target &target) {
    if (catalog::is_distributed(target.oid))
        pg::raise(pg::sqlcode::kWrongObjectType,
                  fmt::format("table \"{}\" is distributed by Citus", target.name),
                  "Its rows are in shards, which are tables of the nodes; its partitions here are empty.",
                  "Start a job for each shard on its node: contrib/citus does it with one call.");
    const std::int64_t shard = catalog::shard_of(target.oid);
    if (shard == catalog::kNoShard)
        return shard;
    check_places(shard, target.name);
    const auto rows = catalog::rows_of_shard(shard);
    if (!rows)
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot rebuild shard \"{}\" of a table that is not distributed by hash",
                              target.name),
                  "Which of the source's rows belong to it cannot be told.");
    if (!rows->column.empty() && catalog::has_local_hash(target.oid, rows->column))
        pg::raise(
            pg::sqlcode::kFeatureNotSupported,
            fmt::format("cannot rebuild shard \"{}\", which is divided by OIDs", target.name),
            fmt::format("The hash of column {} is another one on each node, as that of an enum is: which "
                        "of the source's rows belong to the shard cannot be told.",
                        pg::quote_identifier(rows->column)));
    if (!rows->column.empty())
        target.key_columns.insert(rows->column);
    return shard;
}

} // namespace partbackfill::checks
