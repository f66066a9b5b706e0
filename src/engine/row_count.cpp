#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "optimizer/plancat.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

#include "partbackfill/engine/row_count.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::engine {

namespace {

// A rebuild with fewer than one row in so many of the live partition's shrinks it.
constexpr std::int64_t kShrinking = 2;

// Up to this share of the limit the estimate is believed; beyond it, or when the table was
// never analyzed or vacuumed, rows are counted.
constexpr double kClearly = 0.75;

} // namespace

std::int64_t estimated_rows(Oid table) {
    const double rows = pg::guard([&] {
        Relation relation = relation_open(table, AccessShareLock);
        double tuples = 0;
        if (RELKIND_HAS_TABLE_AM(relation->rd_rel->relkind)) {
            BlockNumber pages = 0;
            double all_visible = 0;
            estimate_rel_size(relation, nullptr, &pages, &tuples, &all_visible);
        }
        relation_close(relation, NoLock);
        return tuples;
    });
    return static_cast<std::int64_t>(rows);
}

namespace {

bool estimate_is_founded(Oid table) {
    return pg::guard([&] {
        Relation relation = relation_open(table, NoLock);
        const bool founded = relation->rd_rel->reltuples >= 0;
        relation_close(relation, NoLock);
        return founded;
    });
}

} // namespace

std::int64_t count_rows(Oid table) {
    return pg::guard([&] {
        Relation relation = table_open(table, NoLock);
        TupleTableSlot *slot = table_slot_create(relation, nullptr);
        TableScanDesc scan = table_beginscan(relation, GetActiveSnapshot(), 0, nullptr);
        std::int64_t rows = 0;
        while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
            CHECK_FOR_INTERRUPTS();
            rows++;
        }
        table_endscan(scan);
        ExecDropSingleTupleTableSlot(slot);
        table_close(relation, NoLock);
        return rows;
    });
}

std::optional<std::int64_t> rows_before_shrinking(Oid live, std::int64_t rebuilt) {
    const auto limit = static_cast<double>(kShrinking * rebuilt);
    if (rebuilt > 0 && estimate_is_founded(live) && static_cast<double>(estimated_rows(live)) <= kClearly * limit)
        return std::nullopt;
    const std::int64_t rows = count_rows(live);
    return rows > kShrinking * rebuilt ? std::optional(rows) : std::nullopt;
}

} // namespace partbackfill::engine
