#include "partbackfill/pg/tables_read.hpp"

extern "C" {
#include "executor/executor.h"
#include "nodes/plannodes.h"
#include "utils/memutils.h"
}

namespace partbackfill::pg {

namespace {

ExecutorStart_hook_type next_start = nullptr;
bool start_hooked = false;
bool noting = false;
List *noted_tables = NIL;

// C-style: the server calls these functions.

void note_tables(const List *oids) {
    const MemoryContext before = MemoryContextSwitchTo(TopTransactionContext);
    for (int i = 0; i < list_length(oids); i++)
        noted_tables = list_append_unique_oid(noted_tables, list_nth_oid(oids, i));
    MemoryContextSwitchTo(before);
}

void start_executor(QueryDesc *query, int flags) {
    if (noting)
        note_tables(query->plannedstmt->relationOids);
    (next_start != nullptr ? next_start : standard_ExecutorStart)(query, flags);
}

} // namespace

TablesRead::TablesRead() noexcept {
    if (!start_hooked) {
        next_start = ExecutorStart_hook;
        ExecutorStart_hook = start_executor;
        start_hooked = true;
    }
    noting = true;
    noted_tables = NIL;
}

TablesRead::~TablesRead() {
    noting = false;
    noted_tables = NIL;
}

List *tables_read() {
    return noted_tables;
}

} // namespace partbackfill::pg
