#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "postmaster/bgworker.h"
}

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "partbackfill/job/own_job.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/snapshot_waits.hpp"
#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/guc.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/notice.hpp"
#include "partbackfill/pg/processes.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/registration.hpp"

namespace partbackfill::process {

namespace {

// The postmaster starts a process again this many seconds after a crash of the server's children,
// or after the process was terminated.
constexpr int kRestartSeconds = 5;

constexpr const char *kLauncherType = "partbackfill launcher";

// The registration of a process. C-style: no error can come of it.
BackgroundWorker description(const char *function, const char *type, const char *name, int restart) {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = restart;
    strlcpy(worker.bgw_library_name, "partbackfill", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_type, type, sizeof(worker.bgw_type));
    strlcpy(worker.bgw_name, name, sizeof(worker.bgw_name));
    return worker;
}

BackgroundWorker worker_for(const Assignment &assignment, int restart = kRestartSeconds) {
    static_assert(sizeof(Assignment) <= BGW_EXTRALEN);
    BackgroundWorker worker =
        description("partbackfill_worker_main", kWorkerType,
                    fmt::format("partbackfill worker for job {}", assignment.job).c_str(), restart);
    memcpy(worker.bgw_extra, &assignment, sizeof(assignment));
    return worker;
}

void start_worker_at_commit(std::int64_t job, Oid role, int earlier, pg::Needed needed) {
    pg::start_at_commit(
        worker_for({MyDatabaseId, role, job, pg::current_xid(), earlier, Task::work, kNoOid, false}), needed);
}

// The part of partbackfill.max_workers and of max_worker_processes that is free.
struct FreeSlots {
    int workers;
    int slots;
    // How many of the wanted workers may start when the job has `alive`. The first worker of a
    // job takes any free slot, within partbackfill.max_workers when that is set; the others leave
    // one worker to the next job, and a quarter of the slots to parallel queries and the like.
    int grant(int wanted, int alive) const {
        const int for_first = pg::max_workers_is_set() ? std::min(workers, slots) : slots;
        const int first = wanted > 0 && alive == 0 ? std::clamp(for_first, 0, 1) : 0;
        const int others = std::min(workers - first - 1, slots - first - max_worker_processes / 4);
        return alive == 0 && first == 0 ? 0 : first + std::clamp(others, 0, std::max(0, wanted - first));
    }
};

FreeSlots free_slots() {
    const pg::BackgroundProcesses now = pg::guard([] { return pg::background_processes(kWorkerType); });
    const int coming = pg::starting_at_commit();
    return {pg::max_workers() - now.of_type - coming, max_worker_processes - now.all - coming};
}

[[noreturn]] void raise_no_slot() {
    pg::raise(pg::sqlcode::kConfigurationLimit, "no free background worker slot",
              "Each worker of a job takes one of max_worker_processes.",
              "Ask for fewer workers, or increase max_worker_processes.");
}

[[noreturn]] void raise_no_worker() {
    pg::raise(pg::sqlcode::kConfigurationLimit, "no worker is free for the job",
              fmt::format("All workers that partbackfill.max_workers ({}) allows are at work for other jobs.",
                          pg::max_workers()),
              "Try again when a job has ended, or increase partbackfill.max_workers.");
}

void report_fewer_workers(std::int64_t job, int started, int wanted) {
    pg::notice(
        fmt::format("backfill job {} starts with {} of {} workers", job, started, wanted),
        fmt::format("partbackfill.max_workers is {}, max_worker_processes {}; a part of both is left to "
                    "others.",
                    pg::max_workers(), max_worker_processes),
        "The others join it as they become free.");
}

} // namespace

void register_workers(const job::Job &job, int count, int alive) {
    const FreeSlots free = free_slots();
    const int granted = free.grant(count, alive);
    if (count > std::max(0, free.slots))
        raise_no_slot();
    if (count > 0 && granted == 0 && alive == 0)
        raise_no_worker();
    if (granted < count)
        report_fewer_workers(job.id, alive + granted, alive + count);
    for (int i = 0; i < granted; i++)
        start_worker_at_commit(job.id, job.owner, i, i == 0 && alive == 0 ? pg::Needed::yes : pg::Needed::no);
}

int register_at_once(const job::Job &job, int count, int alive) {
    const int granted = free_slots().grant(count, alive);
    int started = 0;
    while (started < granted) {
        BackgroundWorker worker =
            worker_for({MyDatabaseId, job.owner, job.id, 0, started, Task::work, kNoOid, false});
        if (!pg::guard([&] { return RegisterDynamicBackgroundWorker(&worker, nullptr); }))
            break;
        started++;
    }
    return started;
}

Beginner::Beginner(const job::Job &job, Task task, Oid partition, bool force) : job_(job.id) {
    if (free_slots().grant(1, 0) == 0)
        raise_no_worker();
    // It must not come back after it was reported as lost: the job could be published or reverted later,
    // unasked.
    BackgroundWorker worker =
        worker_for({MyDatabaseId, job.owner, job.id, 0, 0, task, partition, force}, BGW_NEVER_RESTART);
    if (!pg::guard([&] { return RegisterDynamicBackgroundWorker(&worker, &handle_); }))
        raise_no_slot();
}

bool Beginner::is_alive() const {
    pid_t pid = 0;
    return GetBackgroundWorkerPid(handle_, &pid) != BGWH_STOPPED;
}

job::Job Beginner::await_settled(const std::function<bool(const job::Job &)> &finished) const {
    const locks::WaitsForJob waits(job_);
    std::chrono::milliseconds pause{5};
    for (;;) {
        const bool was_alive = is_alive();
        job::Job job = job::read_newest(job_);
        if (job::is_settled(job) && (!was_alive || finished(job)))
            return job;
        pg::wait_latch(pause, pg::Wait::result);
        pause = std::min(pause * 5 / 4, std::chrono::milliseconds(100));
    }
}

MissingWorkers start_missing_workers(const job::Job &job, StartTime when) {
    const bool tidies = core::is_inactive(job.state);
    const auto alive = static_cast<int>(locks::job_workers(job.id).size());
    MissingWorkers workers{alive, std::max(0, (tidies ? 1 : job.workers) - alive), 0};
    if (workers.missing == 0)
        return workers;
    if (when == StartTime::at_once) {
        workers.started = register_at_once(job, workers.missing, alive);
        return workers;
    }
    if (tidies)
        register_tidier(job);
    else
        register_workers(job, workers.missing, alive);
    return workers;
}

bool too_many_workers() {
    return pg::max_workers_is_set() && free_slots().workers < 0;
}

// A tidier is not counted in partbackfill.max_workers: a cancel frees workers.
void register_tidier(const job::Job &job) {
    start_worker_at_commit(job.id, pg::current_role(), 0, pg::Needed::warned);
}

void register_launcher() {
    BackgroundWorker launcher =
        description("partbackfill_launcher_main", kLauncherType, "partbackfill launcher", kRestartSeconds);
    RegisterBackgroundWorker(&launcher);
}

bool scan_database(Oid database) {
    BackgroundWorker scan = description(
        "partbackfill_database_scan_main", kLauncherType,
        fmt::format("partbackfill launcher for database {}", database).c_str(), BGW_NEVER_RESTART);
    scan.bgw_main_arg = ObjectIdGetDatum(database);
    scan.bgw_notify_pid = MyProcPid;
    return pg::guard([&] {
        BackgroundWorkerHandle *handle = nullptr;
        if (!RegisterDynamicBackgroundWorker(&scan, &handle))
            return false;
        WaitForBackgroundWorkerShutdown(handle);
        pfree(handle);
        return true;
    });
}

void register_connect_failure(const Assignment &assignment, const char *message) {
    static_assert(sizeof(ConnectFailure) <= BGW_EXTRALEN);
    ConnectFailure connect_failure{assignment, ""};
    strlcpy(connect_failure.message, message, sizeof(connect_failure.message));
    BackgroundWorker writer = description("partbackfill_connect_failure_main", kLauncherType,
                                          "partbackfill launcher", BGW_NEVER_RESTART);
    memcpy(writer.bgw_extra, &connect_failure, sizeof(connect_failure));
    if (!RegisterDynamicBackgroundWorker(&writer, nullptr))
        ereport(
            LOG,
            (errmsg("no free background worker slot to mark a backfill job whose worker could not connect")));
}

} // namespace partbackfill::process
