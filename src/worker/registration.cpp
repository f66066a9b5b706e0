#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "postmaster/bgworker.h"
}

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/fault.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/registration.hpp"

namespace partbackfill::worker {

namespace {

// After a crash of the server's children, or when it was terminated, the postmaster
// starts a process again after this many seconds.
constexpr int kRestartSeconds = 5;

constexpr const char *kLauncherType = "partbackfill launcher";

// Trivial, since the postmaster takes it as it is. C-style: no error can come of it.
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

BackgroundWorker worker_for(const Assignment &assignment) {
    static_assert(sizeof(Assignment) <= BGW_EXTRALEN);
    BackgroundWorker worker =
        description("partbackfill_worker_main", kWorkerType,
                    fmt::format("partbackfill worker for job {}", assignment.job).c_str(), kRestartSeconds);
    memcpy(worker.bgw_extra, &assignment, sizeof(assignment));
    return worker;
}

void start_worker_at_commit(std::int64_t job, Oid role, int earlier, pg::Needed needed) {
    pg::start_at_commit(worker_for({MyDatabaseId, role, job, pg::current_xid(), earlier}), needed);
}

// What is left of partbackfill.max_workers and of max_worker_processes.
struct Room {
    int workers;
    int slots;
    // Of so many, how many may come when the job has `alive`. The first of a job takes what
    // there is, of all slots unless partbackfill.max_workers is set; the others leave one
    // worker to the next job, and a quarter of the slots to parallel queries and the like.
    int grant(int wanted, int alive) const {
        const int for_first = pg::max_workers_is_set() ? std::min(workers, slots) : slots;
        const int first = wanted > 0 && alive == 0 ? std::clamp(for_first, 0, 1) : 0;
        const int others = std::min(workers - first - 1, slots - first - max_worker_processes / 4);
        return alive == 0 && first == 0 ? 0 : first + std::clamp(others, 0, std::max(0, wanted - first));
    }
};

Room room() {
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

void tell_of_fewer(std::int64_t job, int started, int wanted) {
    const std::string message =
        fmt::format("backfill job {} starts with {} of {} workers", job, started, wanted);
    pg::guard([&] {
        ereport(
            NOTICE,
            (errmsg("%s", message.c_str()),
             errdetail(
                 "partbackfill.max_workers is %d, max_worker_processes %d; a part of both is left to others.",
                 pg::max_workers(), max_worker_processes),
             errhint("The others join it as they become free.")));
    });
}

} // namespace

void register_workers(const job::Job &job, int count, int alive) {
    const Room free = room();
    const int granted = free.grant(count, alive);
    if (count > std::max(0, free.slots))
        raise_no_slot();
    if (count > 0 && granted == 0 && alive == 0)
        raise_no_worker();
    if (granted < count)
        tell_of_fewer(job.id, alive + granted, alive + count);
    for (int i = 0; i < granted; i++)
        start_worker_at_commit(job.id, job.owner, i, i == 0 && alive == 0 ? pg::Needed::yes : pg::Needed::no);
}

int register_at_once(const job::Job &job, int count, int alive) {
    const int granted = room().grant(count, alive);
    int started = 0;
    while (started < granted) {
        BackgroundWorker worker = worker_for({MyDatabaseId, job.owner, job.id, 0, started});
        if (!pg::guard([&] { return RegisterDynamicBackgroundWorker(&worker, nullptr); }))
            break;
        started++;
    }
    return started;
}

bool is_one_too_many() {
    return pg::max_workers_is_set() && room().workers < 0;
}

// Tidying is not counted: a cancel frees workers.
void register_tidier(const job::Job &job) {
    start_worker_at_commit(job.id, pg::current_role(), 0, pg::Needed::warned);
}

void register_launcher() {
    BackgroundWorker launcher =
        description("partbackfill_launcher_main", kLauncherType, "partbackfill launcher", kRestartSeconds);
    RegisterBackgroundWorker(&launcher);
}

bool look_into_database(Oid database) {
    BackgroundWorker scout = description(
        "partbackfill_scout_main", kLauncherType,
        fmt::format("partbackfill launcher for database {}", database).c_str(), BGW_NEVER_RESTART);
    scout.bgw_main_arg = ObjectIdGetDatum(database);
    scout.bgw_notify_pid = MyProcPid;
    return pg::guard([&] {
        BackgroundWorkerHandle *handle = nullptr;
        if (!RegisterDynamicBackgroundWorker(&scout, &handle))
            return false;
        WaitForBackgroundWorkerShutdown(handle);
        pfree(handle);
        return true;
    });
}

void register_obituary(const Assignment &assignment, const char *message) {
    static_assert(sizeof(Obituary) <= BGW_EXTRALEN);
    Obituary obituary{assignment, ""};
    strlcpy(obituary.message, message, sizeof(obituary.message));
    BackgroundWorker writer =
        description("partbackfill_obituary_main", kLauncherType, "partbackfill launcher", BGW_NEVER_RESTART);
    memcpy(writer.bgw_extra, &obituary, sizeof(obituary));
    if (!RegisterDynamicBackgroundWorker(&writer, nullptr))
        ereport(
            LOG,
            (errmsg("no free background worker slot to mark a backfill job whose worker could not connect")));
}

} // namespace partbackfill::worker
