#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/genam.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
}

#include "partbackfill/load/custom_plan.hpp"
#include "partbackfill/load/key_refresh.hpp"
#include "partbackfill/load/rewritten_tables.hpp"
#include "partbackfill/load/row_assignment.hpp"
#include "partbackfill/pg/counters.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/param_datum.hpp"
#include "partbackfill/pg/row_changes.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/tables_read.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::load {

namespace {

// C-style from here on: everything runs in one guarded call.
struct Work {
    Relation log;
    Oid file; // of the log
    Relation shadow;
    Tuplestorestate *keys; // the log's entries
    Tuplestorestate *rows; // what the source gives for them
    TupleDesc row_type;
    int64 count;
    int64 row_count;
    BlockNumber next;
    bool at_end;
    BlockNumber *blocks; // of the shadow, several times perhaps
    int64 block_count;
    int64 block_room;
    const core::SeenEntries *seen;
    core::LogEntry *entries; // that were taken; null unless they are to be remembered
    int64 entry_room;
};

void note_block(Work *work, BlockNumber block) {
    if (work->block_count > 0 && work->blocks[work->block_count - 1] == block)
        return;
    if (work->block_count == work->block_room) {
        const int64 room = work->block_room * 2 + 64;
        const Size bytes = sizeof(BlockNumber) * static_cast<Size>(room);
        work->blocks = static_cast<BlockNumber *>(work->blocks == nullptr
                                                      ? MemoryContextAllocHuge(CurrentMemoryContext, bytes)
                                                      : repalloc_huge(work->blocks, bytes));
        work->block_room = room;
    }
    work->blocks[work->block_count++] = block;
}

void note_entry(Work *work, const ItemPointerData *place) {
    if (work->count == work->entry_room) {
        work->entry_room = work->entry_room * 2 + 64;
        const Size bytes = sizeof(core::LogEntry) * static_cast<Size>(work->entry_room);
        work->entries = static_cast<core::LogEntry *>(repalloc_huge(work->entries, bytes));
    }
    work->entries[work->count] = {ItemPointerGetBlockNumber(place), ItemPointerGetOffsetNumber(place)};
}

bool is_seen(const core::SeenEntries *seen, Relation log, const ItemPointerData *place) {
    return seen != nullptr && seen->has(log->rd_rel->relfilenode, ItemPointerGetBlockNumber(place),
                                        ItemPointerGetOffsetNumber(place));
}

// nullptr when there is no such block.
TableScanDesc begin_log_scan(Relation log, BlockNumber from, BlockNumber to) {
    const BlockNumber end = Min(to, RelationGetNumberOfBlocks(log));
    if (from >= end)
        return nullptr;
    const bool any_strategy = true;
    const bool synchronized = false;
    TableScanDesc scan =
        table_beginscan_strat(log, GetActiveSnapshot(), 0, nullptr, any_strategy, synchronized);
    heap_setscanlimits(scan, from, end - from);
    return scan;
}

// No other process deletes from the log.
void take_entries(Work *work, const LogPart *part, bool consume) {
    work->at_end = true;
    work->next = part->end;
    TableScanDesc scan = begin_log_scan(work->log, part->from, part->end);
    if (scan == nullptr)
        return;
    TupleTableSlot *slot = table_slot_create(work->log, nullptr);
    BlockNumber block = part->from;
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        const BlockNumber here = ItemPointerGetBlockNumber(&slot->tts_tid);
        if (here != block && work->count >= part->most) {
            work->at_end = false;
            work->next = here;
            break;
        }
        block = here;
        if (is_seen(work->seen, work->log, &slot->tts_tid))
            continue;
        tuplestore_puttupleslot(work->keys, slot);
        if (work->entries != nullptr)
            note_entry(work, &slot->tts_tid);
        work->count++;
        if (consume)
            simple_heap_delete(work->log, &slot->tts_tid);
        CHECK_FOR_INTERRUPTS();
    }
    ExecDropSingleTupleTableSlot(slot);
    table_endscan(scan);
}

Cost cost_of(SPIPlanPtr plan) {
    CachedPlan *cached = SPI_plan_get_cached_plan(plan);
    if (cached == nullptr)
        return 0;
    const auto *statement = static_cast<PlannedStmt *>(linitial(cached->stmt_list));
    const Cost cost = statement->planTree->total_cost;
    ReleaseCachedPlan(cached, nullptr);
    return cost;
}

SPIPlanPtr choose(const RefreshRequest *request, KeyQuery *form) {
    if (*form == KeyQuery::by_cost) {
        SPIPlanPtr each = prepare_custom(request->queries.each.c_str(), request->params, false);
        SPIPlanPtr joined = prepare_custom(request->queries.joined.c_str(), request->params, false);
        *form = cost_of(each) <= cost_of(joined) ? KeyQuery::each : KeyQuery::joined;
        return *form == KeyQuery::each ? each : joined;
    }
    const std::string &sql = *form == KeyQuery::each ? request->queries.each : request->queries.joined;
    return prepare_custom(sql.c_str(), request->params, false);
}

// Shows the entries to the statement as a table of the name kKeys.
void register_keys(const Work *work) {
    auto *relation = static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    relation->md.name = pstrdup(kKeys);
    relation->md.reliddesc = InvalidOid;
    relation->md.tupdesc = CreateTupleDescCopy(RelationGetDescr(work->log));
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = static_cast<double>(work->count);
    relation->reldata = work->keys;
    const int code = SPI_register_relation(relation);
    if (code != SPI_OK_REL_REGISTER)
        elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(code));
}

void read_source(Work *work, const RefreshRequest *request, KeyQuery *form) {
    register_keys(work);
    SPIPlanPtr plan = choose(request, form);
    const auto *source = static_cast<CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
    work->row_type = CreateTupleDescCopy(source->resultDesc);
    DestReceiver *receiver = CreateTuplestoreDestReceiver();
    SetTuplestoreDestReceiverParams(receiver, work->rows, CurrentMemoryContext, false, nullptr, nullptr);
    SPIExecuteOptions options{};
    options.params = pg::param_list(request->params);
    options.read_only = true;
    options.dest = receiver;
    const int code = SPI_execute_plan_extended(plan, &options);
    if (code < 0)
        elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(code));
    check_not_rewritten();
}

// Conditions on the index's columns, whose values are set for each key.
ScanKey key_conditions(Relation index) {
    const int count = IndexRelationGetNumberOfKeyAttributes(index);
    auto *conditions = static_cast<ScanKey>(palloc0(sizeof(ScanKeyData) * static_cast<Size>(count)));
    for (int i = 0; i < count; i++) {
        const Oid type = index->rd_opcintype[i];
        const Oid equality = get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);
        if (!OidIsValid(equality))
            elog(ERROR, "index \"%s\" has no equality", RelationGetRelationName(index));
        ScanKeyInit(&conditions[i], static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber,
                    get_opcode(equality), 0);
        conditions[i].sk_collation = index->rd_indcollation[i];
    }
    return conditions;
}

// Deletes the shadow's rows that have the keys. A key that comes again finds no row.
void delete_rows(Work *work, Oid index_oid) {
    Relation index = index_open(index_oid, RowExclusiveLock);
    const int count = IndexRelationGetNumberOfKeyAttributes(index);
    ScanKey conditions = key_conditions(index);
    IndexScanDesc scan = pg::begin_index_scan(work->shadow, index, SnapshotSelf, count);
    TupleTableSlot *entry = MakeSingleTupleTableSlot(RelationGetDescr(work->log), &TTSOpsMinimalTuple);
    TupleTableSlot *row = table_slot_create(work->shadow, nullptr);
    tuplestore_rescan(work->keys);
    while (tuplestore_gettupleslot(work->keys, true, false, entry)) {
        slot_getallattrs(entry);
        for (int i = 0; i < count; i++)
            conditions[i].sk_argument = entry->tts_values[i + 1];
        index_rescan(scan, conditions, count, nullptr, 0);
        while (index_getnext_slot(scan, ForwardScanDirection, row)) {
            note_block(work, ItemPointerGetBlockNumber(&row->tts_tid));
            simple_table_tuple_delete(work->shadow, &row->tts_tid, SnapshotSelf);
        }
        CHECK_FOR_INTERRUPTS();
    }
    index_endscan(scan);
    ExecDropSingleTupleTableSlot(entry);
    ExecDropSingleTupleTableSlot(row);
    index_close(index, NoLock);
}

// Functions that an index names run as the owner of the table, as when the index is built.
List *enter_in_indexes(RowAssignment *assignment, TupleTableSlot *row) {
    Oid user = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(assignment->table->rd_rel->relowner, context | SECURITY_RESTRICTED_OPERATION);
    List *recheck = pg::insert_index_entries(assignment->result, row, assignment->estate);
    SetUserIdAndSecContext(user, context);
    return recheck;
}

void insert_rows(Work *work, const std::vector<std::string> *columns) {
    auto *targets = static_cast<AttrNumber *>(palloc(sizeof(AttrNumber) * (columns->size() + 1)));
    for (size_t i = 0; i < columns->size(); i++)
        targets[i] = get_attnum(RelationGetRelid(work->shadow), (*columns)[i].c_str());
    RowAssignment assignment;
    row_assignment_init(&assignment, work->shadow, targets, static_cast<int>(columns->size()));
    row_assignment_start(&assignment, work->row_type);
    pg::keep_constraint_triggers(assignment.result);
    ExecOpenIndices(assignment.result, false);
    AfterTriggerBeginQuery();
    TupleTableSlot *source = MakeSingleTupleTableSlot(work->row_type, &TTSOpsMinimalTuple);
    TupleTableSlot *row = table_slot_create(work->shadow, nullptr);
    const CommandId command = GetCurrentCommandId(true);
    pg::leave_uncounted(work->shadow);
    while (tuplestore_gettupleslot(work->rows, true, false, source)) {
        ExecClearTuple(row);
        row_assign(&assignment, source, row);
        table_tuple_insert(work->shadow, row, command, TABLE_INSERT_NO_LOGICAL, nullptr);
        note_block(work, ItemPointerGetBlockNumber(&row->tts_tid));
        work->row_count++;
        List *recheck = enter_in_indexes(&assignment, row);
        ExecARInsertTriggers(assignment.estate, assignment.result, row, recheck, nullptr);
        ResetPerTupleExprContext(assignment.estate);
        CHECK_FOR_INTERRUPTS();
    }
    AfterTriggerEndQuery(assignment.estate);
    ExecCloseIndices(assignment.result);
    ExecCloseResultRelations(assignment.estate);
    ExecDropSingleTupleTableSlot(source);
    ExecDropSingleTupleTableSlot(row);
    row_assignment_end(&assignment);
}

// The part of the work that only reads, but for the log.
void read_part(Work *work, const RefreshRequest *request, const LogPart *part, bool consume, KeyQuery *form) {
    work->log = table_open(request->log, RowExclusiveLock);
    work->file = work->log->rd_rel->relfilenode;
    work->shadow = table_open(request->shadow, RowExclusiveLock);
    pg::leave_uncounted(work->shadow);
    work->keys = tuplestore_begin_heap(true, false, work_mem);
    work->rows = tuplestore_begin_heap(false, false, work_mem);
    take_entries(work, part, consume);
    SPI_connect();
    if (work->count > 0)
        read_source(work, request, form);
}

void write_part(Work *work, const RefreshRequest *request, MemoryContext keep) {
    const MemoryContext inner = MemoryContextSwitchTo(keep);
    if (work->count > 0) {
        delete_rows(work, request->index);
        CommandCounterIncrement();
        insert_rows(work, &request->queries.columns);
    }
    tuplestore_end(work->rows);
    tuplestore_end(work->keys);
    table_close(work->shadow, NoLock);
    table_close(work->log, NoLock);
    MemoryContextSwitchTo(inner);
    SPI_finish();
    CommandCounterIncrement();
}

} // namespace

Refreshed refresh(const RefreshRequest &request, const LogPart &part, Entries entries,
                  const core::SeenEntries &seen, KeyQuery &form) {
    const pg::CallersPath path;
    const MemoryContext keep = CurrentMemoryContext;
    Work work{};
    work.seen = &seen;
    if (entries == Entries::remembered) {
        work.entry_room = 64;
        work.entries =
            pg::guard([&] { return static_cast<core::LogEntry *>(palloc(sizeof(core::LogEntry) * 64)); });
    }
    {
        const pg::ReadOnlyScope read_only;
        const pg::TablesRead tables;
        pg::guard([&] { read_part(&work, &request, &part, entries == Entries::consumed, &form); });
    }
    pg::guard([&] { write_part(&work, &request, keep); });
    Refreshed refreshed{
        work.count, work.next, work.at_end, work.row_count, {work.blocks, work.blocks + work.block_count}};
    refreshed.file = work.file;
    if (work.entries != nullptr)
        refreshed.entries.assign(work.entries, work.entries + work.count);
    return refreshed;
}

LogSize size_of_log(Oid log, const core::SeenEntries *seen) {
    return pg::guard([&] {
        Relation table = table_open(log, AccessShareLock);
        LogSize size{0, RelationGetNumberOfBlocks(table)};
        if (TableScanDesc scan = begin_log_scan(table, 0, size.blocks)) {
            TupleTableSlot *slot = table_slot_create(table, nullptr);
            while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
                if (!is_seen(seen, table, &slot->tts_tid))
                    size.entries++;
                CHECK_FOR_INTERRUPTS();
            }
            ExecDropSingleTupleTableSlot(slot);
            table_endscan(scan);
        }
        table_close(table, NoLock);
        return size;
    });
}

} // namespace partbackfill::load
