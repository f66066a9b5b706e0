#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/relation.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "commands/progress.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/backend_progress.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/load/custom_plan.hpp"
#include "partbackfill/load/heap_receiver.hpp"
#include "partbackfill/load/loader.hpp"
#include "partbackfill/load/parallel_index_build.hpp"
#include "partbackfill/load/rewritten_tables.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/indexes.hpp"
#include "partbackfill/pg/param_datum.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/read_ahead.hpp"
#include "partbackfill/pg/relation_files.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/tables_read.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::load {

namespace {

bool is_plain_heap(Oid table) {
    const pg::PinnedSettings pinned;
    return pg::query_row("SELECT c.relam = $2 FROM pg_catalog.pg_class AS c WHERE c.oid = $1",
                         {table, static_cast<Oid>(HEAP_TABLE_AM_OID)})
        .boolean(0);
}

// New, empty files for the table and its TOAST table. Not TRUNCATE: that would
// be decoded, and sent to subscribers that have no such table.
void start_files(Oid table) {
    Relation heap = table_open(table, AccessExclusiveLock);
    pg::set_new_file(heap);
    const Oid toast_oid = heap->rd_rel->reltoastrelid;
    const char persistence = heap->rd_rel->relpersistence;
    table_close(heap, NoLock);
    if (OidIsValid(toast_oid)) {
        Relation toast = table_open(toast_oid, AccessExclusiveLock);
        pg::set_new_file(toast);
        CommandCounterIncrement();
        List *indexes = list_copy(RelationGetIndexList(toast));
        table_close(toast, NoLock);
        for (int i = 0; i < list_length(indexes); i++)
            pg::rebuild_index(list_nth_oid(indexes, i), persistence);
    }
    CommandCounterIncrement();
}

TupleDesc result_of(SPIPlanPtr plan) {
    List *sources = SPI_plan_get_plan_sources(plan);
    return static_cast<CachedPlanSource *>(linitial(sources))->resultDesc;
}

void start_progress(Oid table) {
    pgstat_progress_start_command(PROGRESS_COMMAND_COPY, table);
    pgstat_progress_update_param(PROGRESS_COPY_COMMAND, PROGRESS_COPY_COMMAND_FROM);
    pgstat_progress_update_param(PROGRESS_COPY_TYPE, PROGRESS_COPY_TYPE_CALLBACK);
}

// The server calls it inside the query.
void delay_point(void *argument) {
    pg::enter_callback([](void *request) { static_cast<const LoadRequest *>(request)->delay_point(); },
                       argument);
}

AttrNumber *target_attributes(Relation table, const std::vector<std::string> &columns) {
    auto *targets = static_cast<AttrNumber *>(palloc(sizeof(AttrNumber) * (columns.size() + 1)));
    for (size_t i = 0; i < columns.size(); i++) {
        targets[i] = get_attnum(RelationGetRelid(table), columns[i].c_str());
        if (targets[i] == InvalidAttrNumber)
            elog(ERROR, "column \"%s\" of the shadow is gone", columns[i].c_str());
    }
    return targets;
}

uint64 load_rows(const LoadRequest &request) {
    GetCurrentTransactionId(); // cannot be assigned any more once a parallel plan runs
    SPI_connect();
    Relation table = table_open(request.shadow, NoLock);
    DestReceiver *receiver = heap_receiver_create(table, target_attributes(table, request.query.columns),
                                                  static_cast<int>(request.query.columns.size()));
    if (request.delay_point)
        heap_receiver_set_delay_point(receiver, delay_point, const_cast<LoadRequest *>(&request),
                                      request.rows_per_delay_point);
    // What the rows are, and so how they are converted, is known once the query
    // is parsed; whether that may run beside a parallel plan decides how it is
    // planned.
    SPIPlanPtr plan = prepare_custom(request.query.sql.c_str(), request.params, false);
    if (!request.serial && !heap_receiver_needs_serial_plan(receiver, result_of(plan)))
        plan = prepare_custom(request.query.sql.c_str(), request.params, true);
    SPIExecuteOptions options{};
    options.params = pg::param_list(request.params);
    options.read_only = true;
    options.dest = receiver;
    start_progress(request.shadow);
    const int code = SPI_execute_plan_extended(plan, &options);
    if (code < 0)
        elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(code));
    check_not_rewritten();
    const uint64 rows = heap_receiver_finish(receiver);
    table_close(table, NoLock);
    SPI_finish();
    CommandCounterIncrement();
    return rows;
}

// Within its life logical decoding passes over what is written to the table and
// its TOAST table, as over any relation that is marked as being rewritten: a
// subscriber of a FOR ALL TABLES publication has no such table.
class Undecoded {
public:
    explicit Undecoded(Oid table) : table_(table) { mark(table); }
    // Explicit: once an error is on its way nothing can be written, and the mark goes with
    // the transaction.
    void end() { mark(kNoOid); }

private:
    void mark(Oid value) {
        const pg::AsExtensionOwner as_owner;
        pg::execute(R"SQL(
            UPDATE pg_class SET relrewrite = $2
            WHERE oid = $1 OR oid = (SELECT c.reltoastrelid FROM pg_class AS c WHERE c.oid = $1 AND c.reltoastrelid <> 0)
        )SQL",
                    {table_, value});
    }
    Oid table_;
};

} // namespace

void lock_for_load(Oid shadow) {
    pg::guard([&] { LockRelationOid(shadow, AccessExclusiveLock); });
}

void set_new_files(Oid table) {
    pg::guard([&] { start_files(table); });
}

void check_query(const LoadRequest &request) {
    std::optional<catalog::RangeKey> key;
    if (!request.params.empty())
        key = catalog::RangeKey{pg::type_oid(request.params.front())};
    check_columns(parse_query(request.query.sql, key).columns, request.shadow, request.key_columns,
                  request.row_key_columns);
}

std::uint64_t load(const LoadRequest &request) {
    check_settings();     // a role may have got others since backfill_start checked them
    check_query(request); // the source may have changed since then, too
    Undecoded undecoded(request.shadow);
    set_new_files(request.shadow);
    std::uint64_t rows = 0;
    {
        const pg::ReadOnlyScope read_only;
        const pg::ReadAhead ahead(request.reads_ahead);
        const pg::TablesRead tables;
        const pg::CallersPath path;
        rows = pg::guard([&] { return load_rows(request); });
    }
    if (!request.stays_undecoded)
        undecoded.end();
    return rows;
}

void decode_again(const std::vector<Oid> &tables) {
    const pg::PinnedSettings pinned;
    const pg::AsExtensionOwner as_owner;
    // Either TOAST table may be at either table by now.
    pg::execute(R"SQL(
        UPDATE pg_class SET relrewrite = 0
        WHERE relrewrite <> 0
          AND (oid = ANY ($1) OR oid IN (SELECT c.reltoastrelid FROM pg_class AS c WHERE c.oid = ANY ($1)))
    )SQL",
                {tables});
}

void build_indexes(Oid shadow, bool in_parallel, const std::function<void(int, int)> &before) {
    struct Indexes {
        int count;
        Oid *oids;
        char persistence;
    };
    const Indexes indexes = pg::guard([&] {
        Relation table = table_open(shadow, NoLock);
        List *list = RelationGetIndexList(table);
        Indexes found{list_length(list),
                      static_cast<Oid *>(palloc(sizeof(Oid) * static_cast<Size>(list_length(list) + 1))),
                      table->rd_rel->relpersistence};
        for (int i = 0; i < found.count; i++)
            found.oids[i] = list_nth_oid(list, i);
        table_close(table, NoLock);
        return found;
    });
    pg::guard([&] { start_index_progress(shadow, indexes.count); });
    std::vector<Oid> left(indexes.oids, indexes.oids + indexes.count);
    int begun = 0;
    const auto begin = [&](int k) {
        if (k > begun)
            before(begun = k, indexes.count);
    };
    if (in_parallel && indexes.count > 1 && is_plain_heap(shadow)) {
        begin(1);
        const pg::CallersPath path;
        left = build_in_parallel(shadow, left);
    }
    int done = indexes.count - static_cast<int>(left.size());
    for (const Oid index : left) {
        begin(++done);
        const pg::CallersPath path;
        pg::guard([&] {
            show_index_progress(done - 1, index);
            pg::rebuild_index(index, indexes.persistence);
            CommandCounterIncrement();
        });
    }
}

void end_progress() {
    pg::guard([] { pgstat_progress_end_command(); });
}

void analyze(Oid shadow) {
    const std::string name = catalog::relation_entry(shadow).qualified();
    const pg::CallersPath path;
    pg::execute("ANALYZE " + name);
}

} // namespace partbackfill::load
