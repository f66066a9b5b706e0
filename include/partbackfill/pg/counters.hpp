// The server's cumulative statistics of tables and indexes: what
// pg_stat_all_tables and pg_stat_all_indexes show, and autovacuum goes by. Statistics are
// shared, and known to no transaction: a change is seen at once, and not undone.
#pragma once

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/relcache.h"
}

namespace partbackfill::pg {

// Keeps rows that are inserted by this handle from being counted, until the relation is
// opened again: a later ANALYZE counts them. Reports errors by longjmp.
void leave_uncounted(Relation relation);

// Exchanges all that was counted of two tables or of two indexes.
void exchange_counters(Oid a, Oid b);

// Exchanges what was counted of the rows of two tables that have exchanged their rows: how
// many are live and dead, how many came or changed since VACUUM and ANALYZE. That `other`
// was analyzed is counted for `live`. How the tables were used is not touched.
void exchange_counters_of_rows(Oid live, Oid other);

} // namespace partbackfill::pg
