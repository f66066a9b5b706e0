// The launcher: once after the server has started, or was promoted, or its processes
// crashed, it looks into every database for jobs whose workers are gone.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
}

#include <vector>

#include <fmt/format.h>

#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/registration.hpp"
#include "partbackfill/worker/session.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_launcher_main(Datum argument);
PGDLLEXPORT void partbackfill_scout_main(Datum argument);
}

namespace partbackfill::worker {

namespace {

// Between tries when no worker slot is free.
constexpr std::chrono::milliseconds kNoSlot{10000};
constexpr std::chrono::milliseconds kNothingToDo{3600000};

// Databases that can have jobs. The launcher is connected to none, so there is no
// SQL: it reads the shared catalog itself, as the autovacuum launcher does.
std::vector<Oid> databases() {
    std::vector<Oid> found;
    pg::Transaction transaction;
    List *oids = pg::guard([] {
        List *list = NIL;
        Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
        TableScanDesc scan = table_beginscan_catalog(catalog, 0, nullptr);
        HeapTuple tuple = nullptr;
        while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
            const auto *database = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
            if (database->datallowconn && !database->datistemplate && database->datconnlimit >= -1)
                list = lappend_oid(list, database->oid);
        }
        table_endscan(scan);
        table_close(catalog, AccessShareLock);
        return list;
    });
    for (int i = 0; i < list_length(oids); i++)
        found.push_back(list_nth_oid(oids, i));
    transaction.commit();
    return found;
}

void look_everywhere(void *) {
    for (const Oid database : databases())
        while (!look_into_database(database)) {
            log_warning("no free background worker slot to look for backfill jobs");
            pg::wait_latch(kNoSlot, pg::Wait::backoff);
        }
    for (;;)
        pg::wait_latch(kNothingToDo, pg::Wait::idle);
}

// Starts what the job lacks of workers; false when it has none and there is no slot.
bool start_lacking(const job::Job &job) {
    pg::Transaction transaction;
    int alive = static_cast<int>(engine::job_workers(job.id).size());
    const int wanted = core::rests(job.state) ? 1 : job.workers;
    if (alive < wanted)
        log_line(fmt::format("backfill job {} goes on", job.id));
    alive += register_at_once(job, wanted - alive, alive);
    transaction.commit();
    return alive > 0;
}

// The same for all jobs of this database. One that cannot be helped is no reason to
// leave the others alone.
bool start_lacking() {
    std::vector<job::Job> jobs;
    {
        pg::Transaction transaction;
        if (pg::extension_installed()) {
            job::ControlTables control;
            jobs = control.unfinished_jobs();
        }
        transaction.commit();
    }
    bool all = true;
    for (const job::Job &job : jobs) {
        if (job::at_rest(job))
            continue; // it was paused
        try {
            all = start_lacking(job) && all;
        } catch (const pg::Error &error) {
            if (error.code() == pg::sqlcode::kQueryCanceled)
                throw;
            log_warning(fmt::format("backfill job {}: {}", job.id, error.fields().message));
        }
    }
    return all;
}

void scout(void *) {
    override_session();
    for (bool warned = false; !start_lacking(); warned = true) {
        if (!warned)
            log_warning("no free background worker slot to go on with backfill jobs");
        pg::wait_latch(kNoSlot, pg::Wait::backoff);
    }
}

} // namespace

} // namespace partbackfill::worker

void partbackfill_launcher_main(Datum) {
    using namespace partbackfill;
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    pg::enter_worker(worker::look_everywhere, nullptr);
    proc_exit(1);
}

void partbackfill_scout_main(Datum database) {
    using namespace partbackfill;
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
    pg::enter_worker(worker::scout, nullptr);
    proc_exit(0);
}
