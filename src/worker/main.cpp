#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
}

#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/processes.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/pg/trusted.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/process.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/process/session.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/loop.hpp"
#include "partbackfill/worker/publication.hpp"
#include "partbackfill/worker/revert.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_worker_main(Datum argument);
}

namespace partbackfill::worker {

namespace {

constexpr std::chrono::milliseconds kBetweenWorkers{500};
constexpr std::chrono::milliseconds kTurnPollInterval{50};
constexpr std::chrono::milliseconds kTrustPollInterval{5000};

std::optional<job::Job> find_job(std::int64_t id) {
    pg::Transaction transaction;
    std::optional<job::Job> job;
    if (pg::extension_usable()) {
        const pg::AsExtensionOwner owner;
        job = job::JobTable(owner).find(id);
        job::UndecodedMark(owner).restore();
    }
    transaction.commit();
    return job;
}

void await_starter(const process::Assignment &assignment) {
    pg::Transaction transaction;
    pg::wait_for_transaction(assignment.starter);
    transaction.commit();
}

// Sessions that start workers at the same time do not see each other's workers, and may together
// start more than partbackfill.max_workers. The only worker of a job stays.
bool is_surplus(std::int64_t job) {
    pg::Transaction transaction;
    const bool surplus = process::too_many_workers() && !locks::job_workers(job).empty();
    transaction.commit();
    return surplus;
}

std::optional<pg::ErrorFields> distrust() {
    pg::Transaction transaction;
    std::optional<pg::ErrorFields> error;
    if (pg::extension_usable())
        error = pg::distrust(pg::find_extension());
    transaction.commit();
    return error;
}

// Waits until the extension can be trusted; the log has the reason once, not at each start of
// the process.
void await_trust(std::int64_t job) {
    for (bool logged = false; const auto error = distrust(); logged = true) {
        if (!logged)
            process::log_warning(job, "does not go on: " + error->message);
        throttle::show_idle(job, error->message);
        pg::wait_latch(kTrustPollInterval, pg::Wait::backoff);
    }
}

// Workers beyond the second begin one after the other: a job of many small partitions is done
// before all the workers that it asks for have warmed their caches. A worker stops waiting once
// the first ones, which had their time to begin, have left.
void await_turn(const process::Assignment &assignment) {
    using Clock = std::chrono::steady_clock;
    const auto now = Clock::now();
    const auto begin = now + kBetweenWorkers * std::max(0, assignment.earlier - 1);
    while (Clock::now() < begin) {
        pg::wait_latch(kTurnPollInterval, pg::Wait::idle);
        if (Clock::now() < now + kBetweenWorkers || !locks::try_end_job(assignment.job))
            continue;
        locks::release_end_job(assignment.job);
        return;
    }
}

void run(const process::Assignment &assignment) {
    process::override_session();
    // Whether the transaction commits is told by the visible row: after a restart of the server
    // the transaction's number may be another's.
    await_starter(assignment);
    await_turn(assignment);
    if (is_surplus(assignment.job))
        return;
    await_trust(assignment.job);
    const auto job = find_job(assignment.job);
    if (!job)
        return;
    process::show_label(job->label);
    process::renew_session(assignment.job);
    const pg::KeepPlans keep(pg::KeepPlans::From::second_use);
    if (assignment.task == process::Task::publish && begin_publication(assignment.job))
        return;
    if (assignment.task == process::Task::revert && begin_revert(assignment))
        return;
    run_job(assignment.job);
}

// For the callbacks below, which the server calls when the process ends.
process::Assignment assigned{};
bool connected = false;
char connect_error[sizeof(process::ConnectFailure::message)] = "";
int connect_error_code = 0;

emit_log_hook_type previous_log_hook = nullptr;

// Keeps the error that ends a process that cannot connect, as it goes to the log.
void remember_error(ErrorData *error) {
    if (previous_log_hook != nullptr)
        previous_log_hook(error);
    if (connected || error->elevel < ERROR || error->message == nullptr)
        return;
    strlcpy(connect_error, error->message, sizeof(connect_error));
    connect_error_code = error->sqlerrcode;
}

// Whether a later start may succeed: the server is shutting down or starting up, or has no
// connection left.
bool is_transient() {
    return connect_error_code == ERRCODE_ADMIN_SHUTDOWN || connect_error_code == ERRCODE_CRASH_SHUTDOWN ||
           connect_error_code == ERRCODE_CANNOT_CONNECT_NOW ||
           connect_error_code == ERRCODE_TOO_MANY_CONNECTIONS;
}

// The postmaster would for ever restart a worker that cannot connect, because its role or database
// is gone or may not log in. Such a worker exits with 0, as if its work were done, and another
// process records the failure in the job.
void report_unless_connected(int code, Datum) {
    if (!connected && code != 0 && connect_error[0] != '\0' && !is_transient())
        process::register_connect_failure(assigned, connect_error);
}

void exit_for_good_unless_connected(int code, Datum) {
    if (!connected && code != 0 && !is_transient())
        _exit(0);
}

} // namespace

} // namespace partbackfill::worker

void partbackfill_worker_main(Datum) {
    using namespace partbackfill;
    memcpy(&worker::assigned, MyBgworkerEntry->bgw_extra, sizeof(worker::assigned));

    worker::previous_log_hook = emit_log_hook;
    emit_log_hook = worker::remember_error;
    before_shmem_exit(worker::report_unless_connected, 0);
    on_proc_exit(worker::exit_for_good_unless_connected, 0);
    process::connect_process(worker::assigned.database, worker::assigned.role, pg::bypass_login_flag());
    worker::connected = true;
    pg::enter_worker([](void *argument) { worker::run(*static_cast<process::Assignment *>(argument)); },
                     &worker::assigned);
    proc_exit(0);
}
