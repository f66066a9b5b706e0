#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
}

#include <csignal>

#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

// What a (sub)transaction asked for; members that do not apply are empty.
struct Effect {
    SubTransactionId asked_in;
    const char *type; // of the processes that are to be canceled; they hold the lock
    LOCKTAG lock;
    BackgroundWorker *worker;
    Needed needed;
};

// A process that held such a lock when the commit began.
struct Holder {
    int pid;
    PGPROC *process;
    const char *type;
};

List *effects = NIL; // Effect of this transaction, in TopMemoryContext
List *holders = NIL; // Holder of a lock in `effects`, in TopMemoryContext
bool registered = false;

// These functions are C-style: the server calls them in the middle of a commit or an abort.

void forget_all() {
    for (int i = 0; i < list_length(effects); i++) {
        auto *effect = static_cast<Effect *>(list_nth(effects, i));
        if (effect->worker != nullptr)
            pfree(effect->worker);
    }
    list_free_deep(effects);
    list_free_deep(holders);
    effects = NIL;
    holders = NIL;
}

bool same_lock(const LOCKTAG &a, const LOCKTAG &b) {
    return memcmp(&a, &b, sizeof(LOCKTAG)) == 0;
}

// Finds the processes that hold the lock now, also those that took it after the cancel was
// asked for.
void find_holders(const Effect *effect) {
    const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    LockData *locks = GetLockStatusData();
    for (int i = 0; i < locks->nelements; i++) {
        const LockInstanceData &lock = locks->locks[i];
        if (!same_lock(lock.locktag, effect->lock) || lock.holdMask == 0 || lock.pid == MyProcPid)
            continue;
        auto *holder = static_cast<Holder *>(palloc(sizeof(Holder)));
        *holder = {lock.pid, BackendPidGetProc(lock.pid), effect->type};
        holders = lappend(holders, holder);
    }
    pfree(locks->locks);
    pfree(locks);
    MemoryContextSwitchTo(before);
}

// The holder's pid may be another process's by now. While ProcArrayLock is held a process
// in the array cannot leave it. Nothing here can fail: the transaction has committed.
void cancel(const Holder *holder) {
    LWLockAcquire(ProcArrayLock, LW_SHARED);
    const PGPROC *process = BackendPidGetProcWithLock(holder->pid);
    if (process != nullptr && process == holder->process && process->databaseId == MyDatabaseId) {
        const char *type = GetBackgroundWorkerTypeByPid(holder->pid);
        if (type != nullptr && strcmp(type, holder->type) == 0)
            kill(holder->pid, SIGINT);
    }
    LWLockRelease(ProcArrayLock);
}

void start(const Effect *effect) {
    if (RegisterDynamicBackgroundWorker(effect->worker, nullptr) || effect->needed == Needed::no)
        return;
    ereport(effect->needed == Needed::yes ? ERROR : WARNING,
            (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no free background worker slot"),
             errdetail("Each worker of a job takes one of max_worker_processes."),
             errhint("Try again when one is free, or increase max_worker_processes.")));
}

void before_commit() {
    for (int i = 0; i < list_length(effects); i++) {
        const auto *effect = static_cast<Effect *>(list_nth(effects, i));
        if (effect->worker != nullptr)
            start(effect);
        if (effect->type != nullptr)
            find_holders(effect);
    }
}

void at_end(XactEvent event, void *) {
    if (event == XACT_EVENT_PRE_PREPARE && effects != NIL)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("cannot PREPARE a transaction that has started, changed or canceled a backfill job"),
                 errdetail("Processes wait for its end, and would be gone after a restart of the server.")));
    if (event == XACT_EVENT_PRE_COMMIT)
        before_commit();
    if (event == XACT_EVENT_COMMIT)
        for (int i = 0; i < list_length(holders); i++)
            cancel(static_cast<Holder *>(list_nth(holders, i)));
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
        forget_all();
}

// The effects of a subtransaction pass to its parent when it commits, and are dropped when
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
        else {
            if (effect->worker != nullptr)
                pfree(effect->worker);
            pfree(effect);
            effects = list_delete_nth_cell(effects, i);
        }
    }
}

void add_effect(const LOCKTAG *lock, const char *type, const BackgroundWorker *worker, Needed needed) {
    guard([&] {
        if (!registered) {
            RegisterXactCallback(at_end, nullptr);
            RegisterSubXactCallback(at_subtransaction_end, nullptr);
        }
        registered = true;
        const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
        auto *effect = static_cast<Effect *>(palloc0(sizeof(Effect)));
        effect->asked_in = GetCurrentSubTransactionId();
        effect->type = type;
        effect->needed = needed;
        if (lock != nullptr)
            effect->lock = *lock;
        if (worker != nullptr) {
            effect->worker = static_cast<BackgroundWorker *>(palloc(sizeof(BackgroundWorker)));
            *effect->worker = *worker;
        }
        effects = lappend(effects, effect);
        MemoryContextSwitchTo(before);
    });
}

} // namespace

void cancel_holders_at_commit(const LOCKTAG &lock, const char *type) {
    add_effect(&lock, type, nullptr, Needed::no);
}

void start_at_commit(const BackgroundWorker &worker, Needed needed) {
    add_effect(nullptr, nullptr, &worker, needed);
}

int starting_at_commit() {
    int count = 0;
    for (int i = 0; i < list_length(effects); i++)
        count += static_cast<Effect *>(list_nth(effects, i))->worker != nullptr ? 1 : 0;
    return count;
}

} // namespace partbackfill::pg
