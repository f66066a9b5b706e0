#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

#include "partbackfill/catalog/row_count.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::catalog {

namespace {

// 16 MB, so that the lock is held for a moment only, also when the blocks come from a disk.
constexpr BlockNumber kBlocksPerPiece = 2048;

// The estimate is believed up to this share of the limit. Rows are counted beyond it, or when
// the table was never analyzed or vacuumed.
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

bool may_shrink(Oid live, std::int64_t rebuilt) {
    const auto limit = static_cast<double>(kShrinking * rebuilt);
    return rebuilt == 0 || !estimate_is_founded(live) ||
           static_cast<double>(estimated_rows(live)) > kClearly * limit;
}

namespace {

// The scan of the next piece; null at the end of the table. A table of another access method
// than heap is one piece.
TableScanDesc begin_piece(Relation relation, RowCount *count) {
    if (relation->rd_rel->relam != HEAP_TABLE_AM_OID) {
        count->over = true;
        return table_beginscan_strat(relation, GetActiveSnapshot(), 0, nullptr, true, false);
    }
    const BlockNumber blocks = RelationGetNumberOfBlocks(relation);
    if (count->block >= blocks) {
        count->over = true;
        return nullptr;
    }
    TableScanDesc scan = table_beginscan_strat(relation, GetActiveSnapshot(), 0, nullptr, true, false);
    const BlockNumber piece = Min(kBlocksPerPiece, blocks - count->block);
    heap_setscanlimits(scan, count->block, piece);
    count->block += piece;
    count->over = count->block >= blocks;
    return scan;
}

void count_on(Relation relation, std::int64_t limit, RowCount *count) {
    if (count->file != relation->rd_rel->relfilenode)
        *count = RowCount{0, false, 0, relation->rd_rel->relfilenode};
    TableScanDesc scan = begin_piece(relation, count);
    if (scan == nullptr)
        return;
    TupleTableSlot *slot = table_slot_create(relation, nullptr);
    while (count->rows <= limit && table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        count->rows++;
        CHECK_FOR_INTERRUPTS();
    }
    ExecDropSingleTupleTableSlot(slot);
    table_endscan(scan);
    count->over = count->over || count->rows > limit;
}

} // namespace

void count_piece(Oid table, std::int64_t limit, RowCount &count) {
    pg::guard([&] {
        Relation relation = try_relation_open(table, NoLock);
        if (relation == nullptr) {
            count.over = true;
            return;
        }
        count_on(relation, limit, &count);
        relation_close(relation, NoLock);
    });
}

} // namespace partbackfill::catalog
