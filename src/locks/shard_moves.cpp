#include "partbackfill/locks/shard_moves.hpp"

#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::locks {

// 5 is ShareLock.
bool lock_shard(std::int64_t shard, std::chrono::milliseconds limit) {
    return try_bounded(limit, [&] {
        pg::query("SELECT lock_shard_metadata(5, ARRAY[$1::bigint])", {shard}, pg::Read::newest);
    });
}

bool is_moving(Oid table) {
    return !pg::query(R"SQL(
        SELECT FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
        WHERE r.prrelid = $1 AND p.pubname ~ '^citus_shard_(move|split)_publication_'
    )SQL",
                      {table}, pg::Read::newest)
                .empty();
}

} // namespace partbackfill::locks
