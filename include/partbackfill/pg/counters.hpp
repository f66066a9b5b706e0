// The server's cumulative statistics of tables and indexes: what
// pg_stat_all_tables and pg_stat_all_indexes show, and autovacuum goes by. They are
// shared, and known to no transaction: what is done here is done at once.
#pragma once

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/relcache.h"
}

namespace partbackfill::pg {

// Rows that are inserted by this handle are not counted, until the relation is opened
// again: a later ANALYZE says how many there are. Reports errors by longjmp.
void leave_uncounted(Relation relation);

// The two, tables or indexes, exchange all that was counted.
void exchange_counters(Oid a, Oid b);

// The tables have exchanged their rows: what is known of the rows (how many are live
// and dead, how many came or changed since VACUUM and ANALYZE) goes with them, and so
// does that `live` was analyzed. How the tables were used is not touched.
void exchange_counters_of_rows(Oid live, Oid other);

} // namespace partbackfill::pg
