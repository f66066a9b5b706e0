#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
}

#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/loop.hpp"
#include "partbackfill/worker/registration.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_worker_main(Datum argument);
}

namespace partbackfill::worker {

namespace {

// What a role or a database has set must not end a step half-way, or change
// what a step sees.
void override_session() {
    pg::override_for_session("statement_timeout", "0");
    pg::override_for_session("lock_timeout", "0");
    pg::override_for_session("idle_in_transaction_session_timeout", "0");
    if (GetConfigOption("transaction_timeout", true, false) != nullptr)
        pg::override_for_session("transaction_timeout", "0");
    pg::override_for_session("default_transaction_isolation", "read committed");
    pg::override_for_session("default_transaction_read_only", "off");
    pg::override_for_session("default_transaction_deferrable", "off");
    // Of a deadlock the victim is the worker, whatever it is that it does.
    pg::force_for_session("deadlock_timeout", engine::kDeadlockTimeout);
    // A policy that would hide rows of the source is an error, not a loss.
    pg::override_for_session("row_security", "off");
}

// The settings under which the caller tried his query.
void adopt_settings(std::int64_t id) {
    pg::Transaction transaction;
    std::vector<pg::Setting> settings;
    {
        job::ControlTables control;
        const auto job = control.find_job(id);
        if (job && job->owner == GetSessionUserId())
            settings = control.settings(id);
    }
    pg::set_for_session(settings);
    transaction.commit();
}

bool job_exists(std::int64_t id) {
    pg::Transaction transaction;
    bool exists = pg::extension_installed();
    if (exists) {
        job::ControlTables control;
        exists = control.find_job(id).has_value();
    }
    transaction.commit();
    return exists;
}

void await_starter(const Assignment &assignment) {
    pg::Transaction transaction;
    pg::wait_for_transaction(assignment.starter);
    transaction.commit();
}

void run(const Assignment &assignment) {
    override_session();
    // The visible row decides, not the transaction: after a restart its number
    // means nothing any more.
    if (!job_exists(assignment.job)) {
        await_starter(assignment);
        if (!job_exists(assignment.job))
            return;
    }
    adopt_settings(assignment.job);
    run_job(assignment.job);
}

bool connected = false;

// A worker that cannot even connect (its role or database is gone, or may not
// log in) would be started again for ever: it ends as if its work were done.
void end_for_good_unless_connected(int code, Datum) {
    if (!connected && code != 0) {
        ereport(LOG, (errmsg("partbackfill worker could not connect and is not started again"),
                      errhint("Once its role can log in, start the backfill again.")));
        _exit(0);
    }
}

} // namespace

} // namespace partbackfill::worker

void partbackfill_worker_main(Datum) {
    using namespace partbackfill;
    worker::Assignment assignment;
    memcpy(&assignment, MyBgworkerEntry->bgw_extra, sizeof(assignment));

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    on_proc_exit(worker::end_for_good_unless_connected, 0);
    BackgroundWorkerInitializeConnectionByOid(assignment.database, assignment.role, pg::bypass_login_flag());
    worker::connected = true;
    pg::enter_void([](void *argument) { worker::run(*static_cast<worker::Assignment *>(argument)); }, &assignment);
    proc_exit(0);
}
