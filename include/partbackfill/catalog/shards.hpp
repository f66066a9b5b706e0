// Tables of Citus: distributed tables, whose rows are in shards, and the shards, each a table of one node.
//
// All is read from Citus's own catalogs, as the current role; where there is no Citus, no table is either.
// Functions need a PinnedSettings scope. No lock but on these catalogs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

inline constexpr std::int64_t kNoShard = 0;

// Whether there are catalogs of Citus.
bool has_citus();

// Whether the table is one whose rows are in shards.
bool is_distributed(Oid table);

// The number of the shard that the table is, or kNoShard.
std::int64_t shard_of(Oid table);

// Which rows a shard has.
struct ShardRows {
    std::string column;    // the distribution column; empty when the shard has all rows of its table
    std::string condition; // on a row, SQL with the name of the column only
};

// Nothing when the shard is no more, or when its table is distributed in another way than by hash.
std::optional<ShardRows> rows_of_shard(std::int64_t shard);

// Where Citus looks for the rows of a shard.
struct ShardPlaces {
    bool here = false;
    int others = 0;
    std::string elsewhere; // the other nodes, "host:port" with a comma between two
};
ShardPlaces places_of_shard(std::int64_t shard);

// Whether the rows of the table are here, as they were when it was that shard, or none: a table may be
// distributed since, and a shard may be moved away, and back, when another table has its name.
bool is_in_place(Oid table, std::int64_t shard);

// Whether the hash of a value of the column depends on OIDs, which differ from node to node: that of an enum,
// also within another type.
bool has_local_hash(Oid table, const std::string &column);

} // namespace partbackfill::catalog
