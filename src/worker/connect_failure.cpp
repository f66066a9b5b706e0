// The process that records in a job that its workers could not connect. It connects as the
// server's first superuser, since the job's role may not, and runs the extension's own statements
// only.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
}

#include <chrono>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job_control.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/revert_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/current_job.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/process.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/process/session.hpp"
#include "partbackfill/worker/cleanup.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_connect_failure_main(Datum argument);
}

namespace partbackfill::worker {

namespace {

// Another worker of the job may be starting, and succeed: of workers that exceed the connection
// limit of the role only the last fail.
constexpr int kPolls = 30;
constexpr std::chrono::milliseconds kPollInterval{100};

bool has_worker(std::int64_t job) {
    for (int i = 0; i < kPolls; i++) {
        {
            pg::Transaction transaction;
            const bool found = !locks::job_workers(job).empty();
            transaction.commit();
            if (found)
                return true;
        }
        pg::sleep(kPollInterval, pg::Wait::idle);
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

void give_up(const process::ConnectFailure &connect_failure) {
    pg::Transaction transaction;
    if (pg::extension_usable()) {
        const pg::AsExtensionOwner owner;
        job::UndecodedMark(owner).restore();
        const auto job = job::JobTable(owner).find(connect_failure.assignment.job);
        if (job && job->state == core::JobState::running && job->owner == connect_failure.assignment.role) {
            const pg::ErrorFields error = could_not_connect(*job, connect_failure.message);
            if (job->reverts_from)
                job::give_up_revert(owner, *job, &error);
            else
                job::JobControl(owner).give_up(*job, error);
            process::log_error(job->id, error);
        }
    }
    transaction.commit();
}

// Tidies up an inactive job: one that was just marked as failed, or one that was canceled by a
// role that cannot connect.
void tidy(std::int64_t id) {
    const auto job = process::read_job(id);
    if (job && core::is_inactive(job->state) && !job->tidied && locks::try_end_job(id))
        end_job(*job);
}

void record_connect_failure(void *argument) {
    const auto *connect_failure = static_cast<const process::ConnectFailure *>(argument);
    const std::int64_t id = connect_failure->assignment.job;
    process::override_session();
    {
        pg::Transaction transaction;
        pg::wait_for_transaction(connect_failure->assignment.starter);
        transaction.commit();
    }
    if (has_worker(id))
        return;
    give_up(*connect_failure);
    tidy(id);
}

} // namespace

} // namespace partbackfill::worker

void partbackfill_connect_failure_main(Datum) {
    using namespace partbackfill;
    process::ConnectFailure connect_failure;
    memcpy(&connect_failure, MyBgworkerEntry->bgw_extra, sizeof(connect_failure));
    process::connect_process(connect_failure.assignment.database, InvalidOid);
    pg::enter_worker(worker::record_connect_failure, &connect_failure);
    proc_exit(0);
}
