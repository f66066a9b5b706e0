#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
}

#include <fmt/format.h>

#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/registration.hpp"

namespace partbackfill::worker {

namespace {

// After a crash of the server's children, or when it was terminated, the postmaster
// starts a process again after this many seconds.
constexpr int kRestartSeconds = 5;

constexpr const char *kWorkerType = "partbackfill worker";
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

bool try_register(const Assignment &assignment) {
    static_assert(sizeof(Assignment) <= BGW_EXTRALEN);
    BackgroundWorker worker =
        description("partbackfill_worker_main", kWorkerType,
                    fmt::format("partbackfill worker for job {}", assignment.job).c_str(), kRestartSeconds);
    memcpy(worker.bgw_extra, &assignment, sizeof(assignment));
    return pg::guard([&] { return RegisterDynamicBackgroundWorker(&worker, nullptr); });
}

} // namespace

bool try_register_worker(std::int64_t job, Oid role, int earlier) {
    pg::refuse_to_prepare();
    return try_register({MyDatabaseId, role, job, pg::current_xid(), earlier});
}

bool try_register_resumed(const job::Job &job, int earlier) {
    return try_register({MyDatabaseId, job.owner, job.id, 0, earlier});
}

void register_workers(const job::Job &job, int count) {
    for (int i = 0; i < count; i++)
        if (!try_register_worker(job.id, job.owner, i))
            pg::raise(pg::sqlcode::kConfigurationLimit, "no free background worker slot",
                      "Each worker of a job takes one of max_worker_processes.",
                      "Ask for fewer workers, or increase max_worker_processes.");
}

void register_tidier(const job::Job &job) {
    if (try_register_worker(job.id, pg::current_role(), 0))
        return;
    const std::string hint = fmt::format("Call backfill_resume({}) when one is free.", job.id);
    pg::guard([&] {
        ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                          errmsg("no free background worker slot to tidy up after the job"), errhint("%s", hint.c_str())));
    });
}

void register_launcher() {
    BackgroundWorker launcher =
        description("partbackfill_launcher_main", kLauncherType, "partbackfill launcher", kRestartSeconds);
    RegisterBackgroundWorker(&launcher);
}

bool look_into_database(Oid database) {
    BackgroundWorker scout = description("partbackfill_scout_main", kLauncherType,
                                         fmt::format("partbackfill launcher for database {}", database).c_str(),
                                         BGW_NEVER_RESTART);
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
        ereport(LOG, (errmsg("no free background worker slot to mark a backfill job whose worker could not connect")));
}

} // namespace partbackfill::worker
