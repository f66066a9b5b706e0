#include "partbackfill/pg/server.hpp"

#include "partbackfill/catalog/counters.hpp"
#include "partbackfill/pg/counters.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

namespace {

// Exchanges the counters of the indexes of two tables, paired by name.
void exchange_index_counters(Oid a, Oid b) {
    const pg::PinnedSettings pinned;
    const pg::Result pairs = pg::query(R"SQL(
        SELECT ia.indexrelid::bigint, ib.indexrelid::bigint
        FROM pg_index AS ia
        JOIN pg_class AS a ON a.oid = ia.indexrelid
        JOIN pg_index AS ib ON ib.indrelid = $2
        JOIN pg_class AS b ON b.oid = ib.indexrelid AND b.relname = a.relname
        WHERE ia.indrelid = $1
    )SQL",
                                       {a, b});
    for (const pg::Row &pair : pairs.rows)
        pg::exchange_counters(pair.oid(0), pair.oid(1));
}

} // namespace

void carry_counters(Oid live, Oid shadow, Oid old_table) {
    if (old_table == shadow) { // the two have exchanged their files
        pg::exchange_counters_of_rows(live, shadow);
        return;
    }
    pg::exchange_counters(live, shadow);
    pg::exchange_counters_of_rows(shadow, live);
    exchange_index_counters(live, shadow);
}

} // namespace partbackfill::catalog
