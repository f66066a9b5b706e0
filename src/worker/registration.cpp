#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
}

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/registration.hpp"

namespace partbackfill::worker {

namespace {

// After a crash of the server's children the postmaster starts a worker again
// after this many seconds.
constexpr int kRestartSeconds = 5;

} // namespace

void register_worker(std::int64_t job, Oid role) {
    const Assignment assignment{MyDatabaseId, role, job, pg::current_xid()};
    static_assert(sizeof(Assignment) <= BGW_EXTRALEN);
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = kRestartSeconds;
    strlcpy(worker.bgw_library_name, "partbackfill", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "partbackfill_worker_main", sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_type, "partbackfill worker", sizeof(worker.bgw_type));
    strlcpy(worker.bgw_name, fmt::format("partbackfill worker for job {}", job).c_str(), sizeof(worker.bgw_name));
    memcpy(worker.bgw_extra, &assignment, sizeof(assignment));
    if (!pg::guard([&] { return RegisterDynamicBackgroundWorker(&worker, nullptr); }))
        pg::raise(pg::sqlcode::kConfigurationLimit, "no free background worker slot",
                  "Each worker of a job takes one of max_worker_processes.",
                  "Ask for fewer workers, or increase max_worker_processes.");
}

} // namespace partbackfill::worker
