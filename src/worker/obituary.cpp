// The process that tells of a worker that could not connect: its role or database may
// not, so it does this as the server's first superuser, with the extension's own
// statements only.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
}

#include <chrono>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/registration.hpp"
#include "partbackfill/worker/session.hpp"
#include "partbackfill/worker/steps.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_obituary_main(Datum argument);
}

namespace partbackfill::worker {

namespace {

// A worker of the same job may be on its way, and have better luck: for a connection
// limit of the role the last one fails, not all.
constexpr int kLooks = 30;
constexpr std::chrono::milliseconds kBetweenLooks{100};

bool somebody_works(std::int64_t job) {
    for (int i = 0; i < kLooks; i++) {
        {
            pg::Transaction transaction;
            const bool found = !engine::job_workers(job).empty();
            transaction.commit();
            if (found)
                return true;
        }
        pg::sleep(kBetweenLooks, pg::Wait::idle);
    }
    return false;
}

pg::ErrorFields could_not_connect(const job::Job &job, const char *reason) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kInvalidAuthorization;
    error.message = fmt::format("the workers of the job could not connect: {}", reason);
    error.hint =
        fmt::format("Once they can, backfill_retry({0}) goes on; backfill_cancel({0}) ends the job.", job.id);
    return error;
}

void give_up(const Obituary &obituary) {
    pg::Transaction transaction;
    if (pg::extension_installed()) {
        job::ControlTables control;
        control.keep_undecoded();
        const auto job = control.find_job(obituary.assignment.job);
        if (job && job->state == core::JobState::running && job->owner == obituary.assignment.role) {
            const pg::ErrorFields error = could_not_connect(*job, obituary.message);
            control.give_up_job(*job, error);
            log_warning(fmt::format("backfill job {}: {}", job->id, error.message));
        }
    }
    transaction.commit();
}

// What it left, or what a role that canceled it cannot tidy up.
void tidy(std::int64_t id) {
    pg::Transaction transaction;
    std::optional<job::Job> job;
    if (pg::extension_installed()) {
        job::ControlTables control;
        job = control.find_job(id);
    }
    transaction.commit();
    if (job && core::rests(job->state) && !job->tidied && engine::try_end_job(id))
        end_job(*job);
}

void write_obituary(void *argument) {
    const auto *obituary = static_cast<const Obituary *>(argument);
    const std::int64_t id = obituary->assignment.job;
    override_session();
    {
        pg::Transaction transaction;
        pg::wait_for_transaction(obituary->assignment.starter);
        transaction.commit();
    }
    if (somebody_works(id))
        return;
    give_up(*obituary);
    tidy(id);
}

} // namespace

} // namespace partbackfill::worker

void partbackfill_obituary_main(Datum) {
    using namespace partbackfill;
    worker::Obituary obituary;
    memcpy(&obituary, MyBgworkerEntry->bgw_extra, sizeof(obituary));
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(obituary.assignment.database, InvalidOid, 0);
    pg::enter_worker(worker::write_obituary, &obituary);
    proc_exit(0);
}
