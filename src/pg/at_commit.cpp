#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

#include <csignal>

#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

List *pids = NIL; // in TopMemoryContext, of this transaction
bool registered = false;

// C-style: the server calls it in the middle of its commit.
void at_end(XactEvent event, void *) {
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
        return;
    if (event == XACT_EVENT_COMMIT)
        for (int i = 0; i < list_length(pids); i++)
            kill(list_nth_int(pids, i), SIGINT);
    list_free(pids);
    pids = NIL;
}

} // namespace

void cancel_process_at_commit(int pid) {
    guard([&] {
        if (!registered)
            RegisterXactCallback(at_end, nullptr);
        registered = true;
        const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
        pids = lappend_int(pids, pid);
        MemoryContextSwitchTo(before);
    });
}

} // namespace partbackfill::pg
