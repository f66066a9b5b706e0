#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/generic_xlog.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/rel.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/settled_rows.hpp"

namespace partbackfill::pg {

namespace {

// Whether what the transaction did stands, once this one commits.
bool stands(TransactionId xid) {
    if (TransactionIdIsCurrentTransactionId(xid))
        return true;
    if (TransactionIdIsInProgress(xid))
        elog(ERROR, "another transaction (%u) writes to the table", xid);
    return TransactionIdDidCommit(xid);
}

bool is_inserted(HeapTupleHeader row) {
    return HeapTupleHeaderXminFrozen(row) || stands(HeapTupleHeaderGetRawXmin(row));
}

bool is_deleted(HeapTupleHeader row) {
    return (row->t_infomask & HEAP_XMAX_INVALID) == 0 && !HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask) &&
           stands(HeapTupleHeaderGetUpdateXid(row));
}

// False when the row is frozen, and not deleted, already.
bool settle_row(ItemId item, HeapTupleHeader row) {
    if (!is_inserted(row) || is_deleted(row)) {
        ItemIdSetDead(item); // an index may still point to it
        return true;
    }
    const bool frozen = HeapTupleHeaderXminFrozen(row);
    const bool has_xmax = (row->t_infomask & HEAP_XMAX_INVALID) == 0;
    if (frozen && !has_xmax)
        return false;
    row->t_infomask |= HEAP_XMIN_FROZEN;
    if (has_xmax) {
        row->t_infomask &= static_cast<uint16>(~HEAP_XMAX_BITS);
        row->t_infomask |= HEAP_XMAX_INVALID;
        row->t_infomask2 &= static_cast<uint16>(~(HEAP_KEYS_UPDATED | HEAP_HOT_UPDATED));
        HeapTupleHeaderSetXmax(row, InvalidTransactionId);
    }
    return true;
}

// False when the row was not deleted, or not yet.
bool remove_row(ItemId item, HeapTupleHeader row) {
    if ((row->t_infomask & HEAP_XMAX_INVALID) != 0 || HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask) ||
        !TransactionIdDidCommit(HeapTupleHeaderGetUpdateXid(row)))
        return false;
    ItemIdSetDead(item);
    return true;
}

void change_block(Relation table, BlockNumber block, bool (*change)(ItemId, HeapTupleHeader)) {
    Buffer buffer = ReadBuffer(table, block);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *record = GenericXLogStart(table);
    Page page = GenericXLogRegisterBuffer(record, buffer, 0);
    bool changed = false;
    const OffsetNumber last = PageIsNew(page) ? InvalidOffsetNumber : PageGetMaxOffsetNumber(page);
    for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset = OffsetNumberNext(offset)) {
        ItemId item = PageGetItemId(page, offset);
        if (ItemIdIsNormal(item) && change(item, reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item))))
            changed = true;
    }
    if (changed)
        GenericXLogFinish(record);
    else
        GenericXLogAbort(record);
    UnlockReleaseBuffer(buffer);
}

} // namespace

std::vector<std::uint32_t> unfrozen_blocks(Oid table) {
    std::vector<std::uint32_t> blocks;
    guard([&] {
        Relation heap = table_open(table, AccessShareLock);
        Buffer map = InvalidBuffer;
        const BlockNumber count = RelationGetNumberOfBlocks(heap);
        for (BlockNumber block = 0; block < count; block++)
            if ((visibilitymap_get_status(heap, block, &map) & VISIBILITYMAP_ALL_FROZEN) == 0)
                blocks.push_back(block);
        if (BufferIsValid(map))
            ReleaseBuffer(map);
        table_close(heap, NoLock);
    });
    return blocks;
}

void settle_rows(Oid table, const std::vector<std::uint32_t> &blocks) {
    guard([&] {
        Relation heap = table_open(table, AccessShareLock);
        const BlockNumber count = RelationGetNumberOfBlocks(heap);
        for (const std::uint32_t block : blocks)
            if (block < count) {
                CHECK_FOR_INTERRUPTS();
                change_block(heap, block, settle_row);
            }
        table_close(heap, NoLock);
    });
}

void remove_deleted_rows(Oid table, std::uint32_t from, std::uint32_t to) {
    guard([&] {
        Relation heap = table_open(table, AccessShareLock);
        const BlockNumber end = Min(to, RelationGetNumberOfBlocks(heap));
        for (BlockNumber block = from; block < end; block++) {
            CHECK_FOR_INTERRUPTS();
            change_block(heap, block, remove_row);
        }
        table_close(heap, NoLock);
    });
}

} // namespace partbackfill::pg
