#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

#include <csignal>

#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

constexpr int kNobody = 0;

struct Effect {
    int cancels; // a process, or kNobody
    SubTransactionId asked_in;
};

List *effects = NIL; // of Effect, in TopMemoryContext; of this transaction
bool registered = false;

// C-style, both: the server calls them in the middle of a commit or an abort.

void at_end(XactEvent event, void *) {
    if (event == XACT_EVENT_PRE_PREPARE && effects != NIL)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that has started, changed or canceled a backfill job"),
                        errdetail("Processes wait for its end, and would be gone after a restart of the server.")));
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
        return;
    if (event == XACT_EVENT_COMMIT)
        for (int i = 0; i < list_length(effects); i++) {
            const auto *effect = static_cast<Effect *>(list_nth(effects, i));
            if (effect->cancels != kNobody)
                kill(effect->cancels, SIGINT);
        }
    list_free_deep(effects);
    effects = NIL;
}

// What a subtransaction asked for is its parent's when it commits, and gone when
// it rolls back.
void at_subtransaction_end(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *) {
    if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
        return;
    for (int i = list_length(effects) - 1; i >= 0; i--) {
        auto *effect = static_cast<Effect *>(list_nth(effects, i));
        if (effect->asked_in != own)
            continue;
        if (event == SUBXACT_EVENT_COMMIT_SUB)
            effect->asked_in = parent;
        else
            effects = list_delete_nth_cell(effects, i);
    }
}

void add_effect(int cancels) {
    guard([&] {
        if (!registered) {
            RegisterXactCallback(at_end, nullptr);
            RegisterSubXactCallback(at_subtransaction_end, nullptr);
        }
        registered = true;
        const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
        auto *effect = static_cast<Effect *>(palloc(sizeof(Effect)));
        *effect = {cancels, GetCurrentSubTransactionId()};
        effects = lappend(effects, effect);
        MemoryContextSwitchTo(before);
    });
}

} // namespace

void cancel_process_at_commit(int pid) { add_effect(pid); }

void refuse_to_prepare() { add_effect(kNobody); }

} // namespace partbackfill::pg
