// The process that the launcher starts in a database: it starts the workers that the unfinished
// jobs there lack, and ends.
#include "partbackfill/pg/server.hpp"

#include <vector>

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/process/process.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/process/session.hpp"

extern "C" {
#include "storage/ipc.h"
PGDLLEXPORT void partbackfill_database_scan_main(Datum argument);
}

namespace partbackfill::process {

namespace {

// Starts the workers that the job lacks; false when it has none and no slot is free.
bool start_lacking(const job::Job &job) {
    pg::Transaction transaction;
    const MissingWorkers workers = start_missing_workers(job, StartTime::at_once);
    if (workers.missing > 0)
        log_line(job.id, "goes on");
    transaction.commit();
    return workers.alive + workers.started > 0;
}

// Starts the workers that the jobs of this database lack; false when a job has none and no slot
// is free. An error that concerns one job does not keep the others from their workers.
bool start_lacking() {
    std::vector<job::Job> jobs;
    {
        pg::Transaction transaction;
        if (pg::extension_usable()) {
            const pg::AsExtensionOwner owner;
            jobs = job::JobTable(owner).unfinished();
        }
        transaction.commit();
    }
    bool all = true;
    for (const job::Job &job : jobs) {
        if (job::is_settled(job))
            continue; // paused
        try {
            all = start_lacking(job) && all;
        } catch (const pg::Error &error) {
            if (error.code() == pg::sqlcode::kQueryCanceled)
                throw;
            log_error(job.id, error.fields());
        }
    }
    return all;
}

void resume_jobs(void *) {
    override_session();
    for (bool warned = false; !start_lacking(); warned = true) {
        if (!warned)
            log_warning("no free background worker slot to go on with backfill jobs");
        pg::wait_latch(kNoSlotPause, pg::Wait::backoff);
    }
}

} // namespace

} // namespace partbackfill::process

void partbackfill_database_scan_main(Datum database) {
    using namespace partbackfill;
    process::connect_process(DatumGetObjectId(database), InvalidOid);
    pg::enter_worker(process::resume_jobs, nullptr);
    proc_exit(0);
}
