#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/hio.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "catalog/pg_proc.h"
#include "catalog/storage.h"
#include "storage/bufmgr.h"
#include "utils/backend_progress.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

#include <chrono>

#include "partbackfill/load/heap_receiver.hpp"
#include "partbackfill/load/row_assignment.hpp"
#include "partbackfill/pg/counters.hpp"
#include "partbackfill/pg/parallel.hpp"
#include "partbackfill/pg/relation_files.hpp"

namespace partbackfill::load {

namespace {

// COPY's limits: enough rows to fill pages at one go, never so many bytes that
// wide rows need much memory.
constexpr int kMaxRows = 1000;
constexpr Size kMaxBytes = 65535;
// A delay point comes after some rows, but after each row that takes long.
constexpr std::chrono::milliseconds kLongRow{10};

struct HeapReceiver {
    DestReceiver base; // must be first: the server knows only this
    bool is_heap;      // the table is a plain heap
    int options;       // of inserts into the table
    MemoryContext memory;
    MemoryContext flush_memory; // reset after each multi-insert
    Relation table;
    RowAssignment assignment;
    BulkInsertState bulk;
    CommandId command;
    bool spares_cache;
    TupleTableSlot *slots[kMaxRows];
    int buffered;
    Size buffered_bytes;
    uint64 rows;
    void (*delay_point)(void *);
    void *delay_argument;
    int rows_since_delay_point;
    int delay_point_after;    // so many rows
    int rows_per_delay_point; // at most
    std::chrono::steady_clock::time_point last_delay_point;
};

// Without TABLE_INSERT_NO_LOGICAL, which multi-inserts do not know: the loader marks the
// table so that its rows are not decoded.
constexpr int kInsertOptions = TABLE_INSERT_SKIP_FSM;
constexpr int kHeapInsertOptions = kInsertOptions | TABLE_INSERT_FROZEN;

// A table larger than a quarter of shared_buffers is written through a ring of
// buffers, so that it does not push out what others read. A smaller one is not:
// the index builds that follow would read every page of it back into the cache,
// by the server's rule for scans (initscan, heapam.c), which is also the one here.
void spare_cache_if_large(HeapReceiver *self) {
    if (self->spares_cache ||
        RelationGetNumberOfBlocks(self->table) <= static_cast<BlockNumber>(NBuffers) / 4)
        return;
    const MemoryContext before = MemoryContextSwitchTo(self->memory);
    self->bulk->strategy = GetAccessStrategy(BAS_BULKWRITE);
    MemoryContextSwitchTo(before);
    self->spares_cache = true;
}

void show_progress(const HeapReceiver *self) {
    pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED,
                                 static_cast<int64>(self->rows) + self->buffered);
}

// Also between writes: rows may take long to compute, and a throttled load goes in small
// steps.
void reach_delay_point(HeapReceiver *self) {
    if (++self->rows_since_delay_point < self->delay_point_after)
        return;
    self->rows_since_delay_point = 0;
    const bool slow = std::chrono::steady_clock::now() - self->last_delay_point > kLongRow;
    self->delay_point_after = slow ? 1 : Min(2 * self->delay_point_after, self->rows_per_delay_point);
    show_progress(self);
    if (self->delay_point != nullptr) {
        const MemoryContext before = MemoryContextSwitchTo(self->flush_memory);
        self->delay_point(self->delay_argument);
        MemoryContextSwitchTo(before);
        MemoryContextReset(self->flush_memory);
    }
    self->last_delay_point = std::chrono::steady_clock::now();
}

// The transaction is read-only for the source. A heap does not ask; other access methods have catalogs of
// their own, to which they write.
void insert_buffered(HeapReceiver *self) {
    const bool read_only = XactReadOnly;
    XactReadOnly = read_only && self->is_heap;
    table_multi_insert(self->table, self->slots, self->buffered, self->command, self->options, self->bulk);
    XactReadOnly = read_only;
}

void flush(HeapReceiver *self) {
    if (self->buffered == 0)
        return;
    spare_cache_if_large(self);
    const MemoryContext before = MemoryContextSwitchTo(self->flush_memory);
    pg::leave_uncounted(self->table);
    insert_buffered(self);
    MemoryContextSwitchTo(before);
    MemoryContextReset(self->flush_memory);
    for (int i = 0; i < self->buffered; i++)
        ExecClearTuple(self->slots[i]);
    self->rows += static_cast<uint64>(self->buffered);
    self->buffered = 0;
    self->buffered_bytes = 0;
    show_progress(self);
    CHECK_FOR_INTERRUPTS();
}

void startup(DestReceiver *receiver, int, TupleDesc source) {
    auto *self = reinterpret_cast<HeapReceiver *>(receiver);
    const MemoryContext before = MemoryContextSwitchTo(self->memory);
    row_assignment_start(&self->assignment, source);
    MemoryContextSwitchTo(before);
}

TupleTableSlot *next_slot(HeapReceiver *self) {
    if (self->slots[self->buffered] == nullptr) {
        // The query's memory is gone before the last flush: slots live in the receiver's.
        const MemoryContext before = MemoryContextSwitchTo(self->memory);
        self->slots[self->buffered] = table_slot_create(self->table, nullptr);
        MemoryContextSwitchTo(before);
    }
    return ExecClearTuple(self->slots[self->buffered]);
}

// Bytes of the row in the slot.
Size size_of(TupleTableSlot *row) {
    if (TTS_IS_HEAPTUPLE(row) || TTS_IS_BUFFERTUPLE(row))
        return reinterpret_cast<HeapTupleTableSlot *>(row)->tuple->t_len;
    return heap_compute_data_size(row->tts_tupleDescriptor, row->tts_values, row->tts_isnull);
}

bool receive(TupleTableSlot *source, DestReceiver *receiver) {
    auto *self = reinterpret_cast<HeapReceiver *>(receiver);
    TupleTableSlot *row = next_slot(self);
    row_assign(&self->assignment, source, row);

    self->buffered++;
    self->buffered_bytes += size_of(row);
    if (self->buffered == kMaxRows || self->buffered_bytes > kMaxBytes)
        flush(self);
    reach_delay_point(self);
    return true;
}

void shutdown(DestReceiver *) {} // heap_receiver_finish() makes the last flush
void destroy(DestReceiver *) {}

// The server extends a heap that is filled in bulk by many pages at a time;
// pages that no row came to need would stay empty, and be neither all-visible
// nor all-frozen.
void give_back_unused_pages(HeapReceiver *self) {
    if (!self->is_heap || !BufferIsValid(self->bulk->current_buf))
        return;
    const BlockNumber used = BufferGetBlockNumber(self->bulk->current_buf) + 1;
    ReleaseBulkInsertStatePin(self->bulk);
    if (RelationGetNumberOfBlocks(self->table) > used)
        RelationTruncate(self->table, used);
}

} // namespace

DestReceiver *heap_receiver_create(Relation table, const AttrNumber *targets, int count) {
    // The access method does not check this: every reader would see rows of an aborted
    // transaction that were written as frozen.
    if (!pg::file_is_of_this_subtransaction(table))
        elog(ERROR, "table \"%s\" has no file of this transaction", RelationGetRelationName(table));

    auto *self = static_cast<HeapReceiver *>(palloc0(sizeof(HeapReceiver)));
    self->base.receiveSlot = receive;
    self->base.rStartup = startup;
    self->base.rShutdown = shutdown;
    self->base.rDestroy = destroy;
    self->base.mydest = DestNone;
    self->memory = CurrentMemoryContext;
    self->flush_memory = AllocSetContextCreate(CurrentMemoryContext, "partbackfill flush", kMaxBytes + 1,
                                               kMaxBytes + 1, ALLOCSET_DEFAULT_MAXSIZE);
    self->table = table;
    row_assignment_init(&self->assignment, table, targets, count);
    self->bulk = GetBulkInsertState();
    FreeAccessStrategy(self->bulk->strategy);
    self->bulk->strategy = nullptr;
    self->command = GetCurrentCommandId(true);
    self->is_heap = table->rd_amhandler == F_HEAP_TABLEAM_HANDLER; // by whatever name
    self->options = self->is_heap ? kHeapInsertOptions : kInsertOptions;
    self->delay_point_after = 1;
    self->rows_per_delay_point = kMaxRows;
    self->last_delay_point = std::chrono::steady_clock::now();
    return &self->base;
}

void heap_receiver_set_delay_point(DestReceiver *receiver, void (*function)(void *), void *argument,
                                   int rows) {
    auto *self = reinterpret_cast<HeapReceiver *>(receiver);
    self->rows_per_delay_point = rows;
    self->delay_point = function;
    self->delay_argument = argument;
}

uint64 heap_receiver_finish(DestReceiver *receiver) {
    auto *self = reinterpret_cast<HeapReceiver *>(receiver);
    flush(self);
    table_finish_bulk_insert(self->table, self->options);
    give_back_unused_pages(self);
    FreeBulkInsertState(self->bulk);
    for (int i = 0; i < kMaxRows && self->slots[i] != nullptr; i++)
        ExecDropSingleTupleTableSlot(self->slots[i]);
    row_assignment_end(&self->assignment);
    return self->rows;
}

bool heap_receiver_needs_serial_plan(DestReceiver *receiver, TupleDesc source) {
    auto *self = reinterpret_cast<HeapReceiver *>(receiver);
    if (!self->is_heap)
        return true; // what its inserts do is not known
    const TupleDesc desc = RelationGetDescr(self->table);
    bool converts = false;
    List *expressions = row_conversions(&self->assignment, source, &converts);
    if (desc->constr != nullptr) {
        for (int i = 0; i < desc->constr->num_check; i++)
            expressions = lappend(expressions, stringToNode(desc->constr->check[i].ccbin));
        for (int i = 0; i < desc->constr->num_defval; i++)
            if (TupleDescAttr(desc, desc->constr->defval[i].adnum - 1)->attgenerated != '\0')
                expressions = lappend(expressions, stringToNode(desc->constr->defval[i].adbin));
    }
    if (pg::parallel_hazard(expressions) == PROPARALLEL_UNSAFE)
        return true;
    // A cast to a domain runs the domain's constraints, which no plan shows.
    for (int i = 0; converts && i < desc->natts; i++)
        if (get_typtype(TupleDescAttr(desc, i)->atttypid) == TYPTYPE_DOMAIN)
            return true;
    return false;
}

} // namespace partbackfill::load
