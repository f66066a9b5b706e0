#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/amapi.h"
#include "access/genam.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_proc.h"
#include "commands/progress.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "port/atomics.h"
#include "storage/shm_toc.h"
#include "utils/backend_progress.h"
#include "utils/guc.h"
#include "utils/rel.h"
}

#include <algorithm>

#include "partbackfill/load/parallel_index_build.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/parallel.hpp"
#include "partbackfill/pg/relation_files.hpp"
#include "partbackfill/pg/table_owner.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_index_worker_main(dsm_segment *segment, shm_toc *toc);
}

namespace partbackfill::load {

namespace {

constexpr uint64 kSharedKey = 1;
constexpr uint64 kBufferUsageKey = 2;
constexpr uint64 kWalUsageKey = 3;

// Shared memory of the processes. Each process takes the next index until there is none.
struct Shared {
    Oid table;
    pg_atomic_uint32 taken;
    uint32 count;
    Oid indexes[FLEXIBLE_ARRAY_MEMBER];
};

// C-style from here on: the server jumps out of these functions, and calls the worker's
// part.

// How large the index's sort is. The largest are built first, so that none is begun when
// the others are done: keys that are computed, then those of variable length.
int weight(Relation index) {
    const TupleDesc keys = RelationGetDescr(index);
    int sum = 0;
    for (int i = 0; i < keys->natts; i++) {
        sum += TupleDescAttr(keys, i)->attlen < 0 ? 4 : 1;
        if (i < index->rd_index->indnkeyatts && index->rd_index->indkey.values[i] == 0)
            sum += 2;
    }
    return sum;
}

// For such an index index_build and reindex_index (index.c) do nothing beside the build
// itself that ANALYZE does not do: no init fork, no exclusion
// constraint to check, no broken HOT chain in a new table, no flag to set.
bool can_be_built_in_parallel(Relation index) {
    const Form_pg_index form = index->rd_index;
    List *expressions =
        list_concat_copy(RelationGetIndexExpressions(index), RelationGetIndexPredicate(index));
    return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid && !form->indisexclusion &&
           index->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT &&
           pg::parallel_hazard(expressions) == PROPARALLEL_SAFE;
}

void build_index(Relation table, Oid oid) {
    Relation index = index_open(oid, AccessExclusiveLock);
    IndexInfo *info = BuildIndexInfo(index);
    pfree(index->rd_indam->ambuild(table, index, info));
    pfree(info);
    index_close(index, NoLock);
}

void build_some(Shared *shared) {
    Relation table = table_open(shared->table, ShareLock);
    for (;;) {
        const uint32 mine = pg_atomic_fetch_add_u32(&shared->taken, 1);
        if (mine >= shared->count)
            break;
        show_index_progress(static_cast<int>(mine), shared->indexes[mine]);
        build_index(table, shared->indexes[mine]);
    }
    table_close(table, NoLock);
}

struct Choice {
    int count;
    Oid *indexes;
    int helpers;
};

Choice choose(Oid table, const Oid *indexes, int count) {
    Choice choice{0, static_cast<Oid *>(palloc(sizeof(Oid) * static_cast<Size>(count + 1))), 0};
    auto *weights = static_cast<int *>(palloc(sizeof(int) * static_cast<Size>(count + 1)));
    for (int i = 0; i < count; i++) {
        Relation index = index_open(indexes[i], AccessExclusiveLock);
        if (can_be_built_in_parallel(index)) {
            const int own = weight(index);
            int place = choice.count++;
            for (; place > 0 && weights[place - 1] < own; place--) {
                weights[place] = weights[place - 1];
                choice.indexes[place] = choice.indexes[place - 1];
            }
            weights[place] = own;
            choice.indexes[place] = indexes[i];
        }
        index_close(index, NoLock);
    }
    // As many helpers as the server would use for one of the indexes. Without WAL the files
    // would have to be synced, and only the process that made them knows of that.
    if (choice.count > 1 && XLogIsNeeded())
        choice.helpers = Min(plan_create_index_workers(table, choice.indexes[0]), choice.count - 1);
    return choice;
}

// The workers get this setting from here; the caller's settings level undoes it.
void share_memory(int processes) {
    set_config_option("maintenance_work_mem", psprintf("%dkB", Max(maintenance_work_mem / processes, 1024)),
                      PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void share_work(Oid table, const Choice &choice) {
    EnterParallelMode();
    ParallelContext *context =
        CreateParallelContext("partbackfill", "partbackfill_index_worker_main", choice.helpers);
    const Size size =
        add_size(offsetof(Shared, indexes), mul_size(sizeof(Oid), static_cast<Size>(choice.count)));
    shm_toc_estimate_chunk(&context->estimator, size);
    shm_toc_estimate_chunk(&context->estimator,
                           mul_size(sizeof(BufferUsage), static_cast<Size>(context->nworkers)));
    shm_toc_estimate_chunk(&context->estimator,
                           mul_size(sizeof(WalUsage), static_cast<Size>(context->nworkers)));
    shm_toc_estimate_keys(&context->estimator, 3);
    InitializeParallelDSM(context);
    auto *shared = static_cast<Shared *>(shm_toc_allocate(context->toc, size));
    shared->table = table;
    pg_atomic_init_u32(&shared->taken, 0);
    shared->count = static_cast<uint32>(choice.count);
    memcpy(shared->indexes, choice.indexes, sizeof(Oid) * static_cast<Size>(choice.count));
    shm_toc_insert(context->toc, kSharedKey, shared);
    auto *buffers = static_cast<BufferUsage *>(
        shm_toc_allocate(context->toc, mul_size(sizeof(BufferUsage), static_cast<Size>(context->nworkers))));
    shm_toc_insert(context->toc, kBufferUsageKey, buffers);
    auto *wal = static_cast<WalUsage *>(
        shm_toc_allocate(context->toc, mul_size(sizeof(WalUsage), static_cast<Size>(context->nworkers))));
    shm_toc_insert(context->toc, kWalUsageKey, wal);
    LaunchParallelWorkers(context);
    build_some(shared);
    WaitForParallelWorkersToFinish(context);
    for (int i = 0; i < context->nworkers_launched; i++)
        InstrAccumParallelQuery(&buffers[i], &wal[i]);
    DestroyParallelContext(context);
    ExitParallelMode();
}

void build_chosen(Oid table, const Choice &choice) {
    for (int i = 0; i < choice.count; i++) {
        Relation index = index_open(choice.indexes[i], AccessExclusiveLock);
        pg::set_new_file(index);
        index_close(index, NoLock);
    }
    CommandCounterIncrement();
    share_memory(choice.helpers + 1);
    share_work(table, choice);
}

} // namespace

void start_index_progress(Oid table, int indexes) {
    pgstat_progress_start_command(PROGRESS_COMMAND_CREATE_INDEX, table);
    const int numbers[] = {PROGRESS_CREATEIDX_COMMAND, PROGRESS_CREATEIDX_PARTITIONS_TOTAL};
    const int64 values[] = {PROGRESS_CREATEIDX_COMMAND_REINDEX, indexes};
    pgstat_progress_update_multi_param(lengthof(numbers), numbers, values);
}

// All figures at once: a percentage that a reader computes of them does not fall.
void show_index_progress(int done, Oid index) {
    const int numbers[] = {PROGRESS_CREATEIDX_PARTITIONS_DONE,
                           PROGRESS_CREATEIDX_INDEX_OID,
                           PROGRESS_CREATEIDX_ACCESS_METHOD_OID,
                           PROGRESS_CREATEIDX_PHASE,
                           PROGRESS_CREATEIDX_SUBPHASE,
                           PROGRESS_CREATEIDX_TUPLES_DONE,
                           PROGRESS_CREATEIDX_TUPLES_TOTAL,
                           PROGRESS_SCAN_BLOCKS_DONE,
                           PROGRESS_SCAN_BLOCKS_TOTAL};
    Relation relation = index_open(index, AccessExclusiveLock);
    const int64 values[] = {done, index, relation->rd_rel->relam, 0, 0, 0, 0, 0, 0};
    index_close(relation, NoLock);
    pgstat_progress_update_multi_param(lengthof(numbers), numbers, values);
}

std::vector<Oid> build_in_parallel(Oid table, const std::vector<Oid> &indexes) {
    const Choice choice = pg::guard([&] {
        // Before the choice: the server calls functions when it looks at expressions.
        const pg::OwnerContext before = pg::become_restricted_owner(table);
        Choice chosen = choose(table, indexes.data(), static_cast<int>(indexes.size()));
        if (chosen.helpers == 0)
            chosen.count = 0;
        else
            build_chosen(table, chosen);
        pg::become_again(before);
        CommandCounterIncrement();
        return chosen;
    });
    std::vector<Oid> others;
    for (const Oid index : indexes)
        if (std::find(choice.indexes, choice.indexes + choice.count, index) == choice.indexes + choice.count)
            others.push_back(index);
    return others;
}

} // namespace partbackfill::load

void partbackfill_index_worker_main(dsm_segment *, shm_toc *toc) {
    using namespace partbackfill::load;
    auto *buffers = static_cast<BufferUsage *>(shm_toc_lookup(toc, kBufferUsageKey, false));
    auto *wal = static_cast<WalUsage *>(shm_toc_lookup(toc, kWalUsageKey, false));
    InstrStartParallelQuery();
    build_some(static_cast<Shared *>(shm_toc_lookup(toc, kSharedKey, false)));
    InstrEndParallelQuery(&buffers[ParallelWorkerNumber], &wal[ParallelWorkerNumber]);
}
