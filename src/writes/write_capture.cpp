#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
}

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::writes {

namespace {

// The last argument of triggers that mark the first transactions only.
constexpr const char *kFirstMarks = "first";

// The server adds _<oid> to the names of internal triggers.
std::string name_prefix(std::int64_t job) {
    return fmt::format("partbackfill_guard_{}_", job);
}

Oid trigger_function() {
    return pg::query_row(R"SQL(
        SELECT p.oid::bigint
        FROM pg_depend AS d
        JOIN pg_proc AS p ON p.oid = d.objid
        WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = $1
          AND d.deptype = 'e' AND p.proname = 'backfill_guard'
    )SQL",
                         {pg::find_extension().oid})
        .oid(0);
}

void create_trigger(Oid table, Oid function, const char *name, List *arguments, bool row, int events) {
    auto *statement = makeNode(CreateTrigStmt);
    statement->trigname = pstrdup(name);
    statement->row = row;
    statement->timing = TRIGGER_TYPE_AFTER;
    statement->events = static_cast<int16>(events);
    statement->args = arguments;
    const bool is_internal = true;
    const bool in_partition = false;
    CreateTriggerFiringOn(statement, nullptr, table, InvalidOid, InvalidOid, InvalidOid, function, InvalidOid,
                          nullptr, is_internal, in_partition, TRIGGER_FIRES_ALWAYS);
    CommandCounterIncrement();
}

std::vector<Oid> triggers_of(std::int64_t job, Oid partition) {
    return pg::query(R"SQL(
        SELECT t.oid::bigint
        FROM pg_trigger AS t
        WHERE t.tgrelid = $1 AND t.tgisinternal AND starts_with(t.tgname::text, $2)
    )SQL",
                     {partition, name_prefix(job)})
        .oids();
}

std::string column_numbers(const KeyLog &log) {
    return fmt::format("{}", fmt::join(log.columns, " "));
}

constexpr int kRowEvents = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;

List *arguments_of(const std::vector<std::string> &texts) {
    List *arguments = NIL;
    for (const std::string &text : texts)
        arguments = lappend(arguments, makeString(pstrdup(text.c_str())));
    return arguments;
}

} // namespace

WriteBaseline write_baseline(std::int64_t job, Oid partition, pg::Read read) {
    const pg::Result found = pg::query(R"SQL(
        SELECT pg_current_snapshot()::text, COALESCE(guard.versions, ''), guard.count = 2
        FROM pg_class AS c
        CROSS JOIN LATERAL (
            SELECT string_agg(format('%s:%s', t.oid, t.xmin), ' ' ORDER BY t.oid) AS versions, count(*) AS count
            FROM pg_trigger AS t
            WHERE t.tgrelid = c.oid AND t.tgisinternal AND t.tgenabled = 'A' AND starts_with(t.tgname::text, $2)
        ) AS guard
        WHERE c.oid = $1
    )SQL",
                                       {partition, name_prefix(job)}, read);
    if (found.empty())
        return {};
    const pg::Row &row = found.rows.front();
    return {row.text(0), row.text(1), row.boolean(2)};
}

Level finest_level(Oid table) {
    if (pg::query("SELECT FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam "
                  "WHERE c.oid = $1 AND am.amhandler <> 'heap_tableam_handler'::regproc",
                  {table})
            .empty())
        return Level::row;
    const Oid function = trigger_function();
    const pg::Subtransaction always_rolled_back;
    try {
        pg::guard([&] {
            create_trigger(table, function, "partbackfill_guard_trial", arguments_of({"0"}), true,
                           kRowEvents);
        });
    } catch (const pg::Error &error) {
        if (error.code() != pg::sqlcode::kFeatureNotSupported)
            throw;
        return Level::statement;
    }
    return Level::row;
}

void create_write_capture(std::int64_t job, Oid partition, const KeyLog *log, Marks marks, Level level) {
    drop_write_capture(job, partition);
    const Oid function = trigger_function();
    const std::string prefix = name_prefix(job);
    const std::string row = prefix + "row";
    const std::string truncate = prefix + "truncate";
    std::vector<std::string> arguments{std::to_string(job)};
    std::vector<std::string> row_arguments = arguments;
    if (log != nullptr) {
        row_arguments.push_back(std::to_string(log->table));
        row_arguments.push_back(column_numbers(*log));
    }
    if (marks == Marks::of_the_first) {
        arguments.emplace_back(kFirstMarks);
        row_arguments.emplace_back(kFirstMarks);
    }
    pg::guard([&] {
        create_trigger(partition, function, row.c_str(), arguments_of(row_arguments), level == Level::row,
                       kRowEvents);
        create_trigger(partition, function, truncate.c_str(), arguments_of(arguments), false,
                       TRIGGER_TYPE_TRUNCATE);
    });
}

bool logs_keys(std::int64_t job, Oid partition, const KeyLog &log) {
    // Arguments stand in tgargs with a zero byte after each.
    return !pg::query(R"SQL(
        SELECT FROM pg_trigger AS t
        WHERE t.tgrelid = $1 AND t.tgisinternal AND starts_with(t.tgname::text, $2) AND t.tgnargs IN (3, 4)
          AND starts_with(encode(t.tgargs, 'escape'), $3)
    )SQL",
                      {partition, name_prefix(job),
                       fmt::format("{}\\000{}\\000{}\\000", job, log.table, column_numbers(log))})
                .empty();
}

bool has_write_capture(std::int64_t job, Oid partition) {
    return !triggers_of(job, partition).empty();
}
void drop_write_capture(std::int64_t job, Oid partition) {
    catalog::drop_triggers(triggers_of(job, partition));
}

void drop_other_write_captures(std::int64_t job, Oid partition) {
    catalog::drop_triggers(pg::query(R"SQL(
        SELECT t.oid::bigint
        FROM pg_trigger AS t
        WHERE t.tgrelid = $1 AND t.tgisinternal AND t.tgfoid = $2 AND NOT starts_with(t.tgname::text, $3)
    )SQL",
                                     {partition, trigger_function(), name_prefix(job)})
                               .oids());
}

std::vector<Oid> captured_tables(std::int64_t job) {
    return pg::query(R"SQL(
        SELECT DISTINCT t.tgrelid::bigint
        FROM pg_trigger AS t
        WHERE t.tgisinternal AND starts_with(t.tgname::text, $1)
        ORDER BY 1
    )SQL",
                     {name_prefix(job)})
        .oids();
}

} // namespace partbackfill::writes
