#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

#include <csignal>

#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

struct Cancel {
    int pid;
    SubTransactionId asked_in;
};

List *cancels = NIL; // of Cancel, in TopMemoryContext; of this transaction
bool registered = false;

// C-style, both: the server calls them in the middle of a commit or an abort.

void at_end(XactEvent event, void *) {
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
        return;
    if (event == XACT_EVENT_COMMIT)
        for (int i = 0; i < list_length(cancels); i++)
            kill(static_cast<Cancel *>(list_nth(cancels, i))->pid, SIGINT);
    list_free_deep(cancels);
    cancels = NIL;
}

// What a subtransaction asked for is its parent's when it commits, and gone when
// it rolls back.
void at_subtransaction_end(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *) {
    if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
        return;
    for (int i = list_length(cancels) - 1; i >= 0; i--) {
        auto *cancel = static_cast<Cancel *>(list_nth(cancels, i));
        if (cancel->asked_in != own)
            continue;
        if (event == SUBXACT_EVENT_COMMIT_SUB)
            cancel->asked_in = parent;
        else
            cancels = list_delete_nth_cell(cancels, i);
    }
}

} // namespace

void cancel_process_at_commit(int pid) {
    guard([&] {
        if (!registered) {
            RegisterXactCallback(at_end, nullptr);
            RegisterSubXactCallback(at_subtransaction_end, nullptr);
        }
        registered = true;
        const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
        auto *cancel = static_cast<Cancel *>(palloc(sizeof(Cancel)));
        *cancel = {pid, GetCurrentSubTransactionId()};
        cancels = lappend(cancels, cancel);
        MemoryContextSwitchTo(before);
    });
}

} // namespace partbackfill::pg
