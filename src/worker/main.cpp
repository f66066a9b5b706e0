#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
}

#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/format.h>

#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/pg/trusted.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/loop.hpp"
#include "partbackfill/worker/registration.hpp"
#include "partbackfill/worker/session.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_worker_main(Datum argument);
}

namespace partbackfill::worker {

namespace {

constexpr std::chrono::milliseconds kBetweenWorkers{500};
constexpr std::chrono::milliseconds kBetweenLooks{50};
constexpr std::chrono::milliseconds kBetweenTrials{5000};

bool job_exists(std::int64_t id) {
    pg::Transaction transaction;
    bool exists = pg::extension_installed();
    if (exists) {
        job::ControlTables control;
        exists = control.find_job(id).has_value();
        control.keep_undecoded();
    }
    transaction.commit();
    return exists;
}

void await_starter(const Assignment &assignment) {
    pg::Transaction transaction;
    pg::wait_for_transaction(assignment.starter);
    transaction.commit();
}

// Sessions that start workers at once do not see each other's. The only one of a job stays.
bool has_enough(std::int64_t job) {
    pg::Transaction transaction;
    const bool enough = is_one_too_many() && !engine::job_workers(job).empty();
    transaction.commit();
    return enough;
}

std::optional<pg::ErrorFields> distrust() {
    pg::Transaction transaction;
    std::optional<pg::ErrorFields> error;
    if (pg::extension_installed())
        error = pg::distrust(pg::find_extension());
    transaction.commit();
    return error;
}

// Says once why it does nothing, rather than at each start of the process.
void await_trust(std::int64_t job) {
    for (bool told = false; const auto error = distrust(); told = true) {
        if (!told)
            log_warning(fmt::format("backfill job {} does not go on: {}", job, error->message));
        show_idle(job, error->message);
        pg::wait_latch(kBetweenTrials, pg::Wait::backoff);
    }
}

// Workers beyond the second come in one after the other: a job of many small partitions is
// over before as many of them have warmed their caches as it asks for. None waits once
// the first ones, which had their time to begin, have left.
void come_in(const Assignment &assignment) {
    using Clock = std::chrono::steady_clock;
    const auto now = Clock::now();
    const auto begin = now + kBetweenWorkers * std::max(0, assignment.earlier - 1);
    while (Clock::now() < begin) {
        pg::wait_latch(kBetweenLooks, pg::Wait::idle);
        if (Clock::now() < now + kBetweenWorkers || !engine::try_end_job(assignment.job))
            continue;
        engine::release_end_job(assignment.job);
        return;
    }
}

void run(const Assignment &assignment) {
    override_session();
    // Whatever becomes of that transaction, the visible row decides: after a restart
    // its number means nothing any more.
    await_starter(assignment);
    come_in(assignment);
    if (has_enough(assignment.job))
        return;
    await_trust(assignment.job);
    if (!job_exists(assignment.job))
        return;
    renew_session(assignment.job);
    run_job(assignment.job);
}

// For the callbacks below, which the server calls on the way out.
Assignment assigned{};
bool connected = false;
char why_not[sizeof(Obituary::message)] = "";
int why_code = 0;

emit_log_hook_type previous_log_hook = nullptr;

// The error that ends a process that cannot connect, as it goes to the log.
void remember_error(ErrorData *error) {
    if (previous_log_hook != nullptr)
        previous_log_hook(error);
    if (connected || error->elevel < ERROR || error->message == nullptr)
        return;
    strlcpy(why_not, error->message, sizeof(why_not));
    why_code = error->sqlerrcode;
}

// Whether another try may have better luck: the server is on its way down or up, or
// somebody took the last connection.
bool may_pass() {
    return why_code == ERRCODE_ADMIN_SHUTDOWN || why_code == ERRCODE_CRASH_SHUTDOWN ||
           why_code == ERRCODE_CANNOT_CONNECT_NOW || why_code == ERRCODE_TOO_MANY_CONNECTIONS;
}

// A worker that cannot even connect (its role or database is gone, or may not log
// in) would be started again for ever: it ends as if its work were done, and another
// process tells of it in the job.
void tell_unless_connected(int code, Datum) {
    if (!connected && code != 0 && why_not[0] != '\0' && !may_pass())
        register_obituary(assigned, why_not);
}

void end_for_good_unless_connected(int code, Datum) {
    if (!connected && code != 0 && !may_pass())
        _exit(0);
}

} // namespace

} // namespace partbackfill::worker

void partbackfill_worker_main(Datum) {
    using namespace partbackfill;
    memcpy(&worker::assigned, MyBgworkerEntry->bgw_extra, sizeof(worker::assigned));

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    worker::previous_log_hook = emit_log_hook;
    emit_log_hook = worker::remember_error;
    before_shmem_exit(worker::tell_unless_connected, 0);
    on_proc_exit(worker::end_for_good_unless_connected, 0);
    BackgroundWorkerInitializeConnectionByOid(worker::assigned.database, worker::assigned.role,
                                              pg::bypass_login_flag());
    worker::connected = true;
    pg::enter_worker([](void *argument) { worker::run(*static_cast<worker::Assignment *>(argument)); },
                     &worker::assigned);
    proc_exit(0);
}
