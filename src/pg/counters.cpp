#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/pgstat_internal.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

#include <utility>

#include "partbackfill/pg/counters.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

PgStat_EntryRef *entry_of(Oid relation) {
    // An entry that is made for a relation that is gone would stay for ever.
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation)))
        return nullptr;
    return pgstat_get_entry_ref(PGSTAT_KIND_RELATION, MyDatabaseId, relation, true, nullptr);
}

PgStat_StatTabEntry &counters_of(PgStat_EntryRef *entry) {
    return reinterpret_cast<PgStatShared_Relation *>(entry->shared_stats)->stats;
}

// Both entries are locked in the order of their OIDs; the server locks one at a time.
void with_both(Oid a, Oid b, void (*change)(PgStat_StatTabEntry &, PgStat_StatTabEntry &)) {
    guard([&] {
        PgStat_EntryRef *of_a = pgstat_track_counts ? entry_of(a) : nullptr;
        PgStat_EntryRef *of_b = of_a != nullptr ? entry_of(b) : nullptr;
        if (of_b == nullptr)
            return;
        pgstat_lock_entry(a < b ? of_a : of_b, false);
        pgstat_lock_entry(a < b ? of_b : of_a, false);
        change(counters_of(of_a), counters_of(of_b));
        pgstat_unlock_entry(of_b);
        pgstat_unlock_entry(of_a);
    });
}

// Exchanges what is counted of the tables' rows; that the rows of `b` were analyzed is
// counted for `a`.
void exchange_row_counters(PgStat_StatTabEntry &a, PgStat_StatTabEntry &b) {
#if PG_VERSION_NUM >= 160000
    std::swap(a.live_tuples, b.live_tuples);
    std::swap(a.dead_tuples, b.dead_tuples);
    std::swap(a.mod_since_analyze, b.mod_since_analyze);
    std::swap(a.ins_since_vacuum, b.ins_since_vacuum);
    std::swap(a.last_analyze_time, b.last_analyze_time);
#else
    std::swap(a.n_live_tuples, b.n_live_tuples);
    std::swap(a.n_dead_tuples, b.n_dead_tuples);
    std::swap(a.changes_since_analyze, b.changes_since_analyze);
    std::swap(a.inserts_since_vacuum, b.inserts_since_vacuum);
    std::swap(a.analyze_timestamp, b.analyze_timestamp);
#endif
    a.analyze_count += std::exchange(b.analyze_count, 0);
}

} // namespace

void leave_uncounted(Relation relation) {
    pgstat_unlink_relation(relation);
    relation->pgstat_enabled = false;
}

void exchange_counters(Oid a, Oid b) {
    with_both(a, b, [](PgStat_StatTabEntry &of_a, PgStat_StatTabEntry &of_b) { std::swap(of_a, of_b); });
}

void exchange_counters_of_rows(Oid live, Oid other) {
    with_both(live, other, exchange_row_counters);
}

} // namespace partbackfill::pg
