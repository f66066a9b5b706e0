// The function that SQL calls to await a job.
#include "partbackfill/pg/server.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/job/activity_view.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/locks/snapshot_waits.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/results.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill {

namespace {

// Between two checks whether the job has a worker.
constexpr std::chrono::seconds kBetweenWorkerChecks{1};

bool has_no_worker(std::int64_t id) {
    const pg::AsExtensionOwner owner;
    const auto jobs = job::ActivityView(owner).jobs_without_worker();
    return std::any_of(jobs.begin(), jobs.end(), [&](const auto &idle) { return idle.job == id; });
}

// Nothing would end the wait, unless another session is about to resume the job.
void warn_of_no_worker(std::int64_t id) {
    const std::string message = fmt::format("backfill job {} has no worker", id);
    const std::string hint = fmt::format("Call backfill_resume({}) in another session.", id);
    pg::guard([&] {
        ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", message.c_str()),
                          errdetail("The server was restarted, or promoted, since the job was started."),
                          errhint("%s", hint.c_str())));
    });
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_wait: returns the job's state once the job is settled, or after `timeout`. Takes no
// lock, and a snapshot only for each look at the job.
PARTBACKFILL_FUNCTION(partbackfill_wait) {
    const pg::Arguments arguments(fcinfo);
    const std::int64_t id = arguments.bigint(0, "job");
    const auto limit = arguments.optional_seconds(1);
    using Clock = std::chrono::steady_clock;
    const auto begun = Clock::now();
    const std::chrono::duration<double> seconds(limit.value_or(0));
    job::find_job_to_stop(id);
    {
        const pg::AsExtensionOwner owner;
        if (job::JobTable(owner).is_of_this_transaction(id))
            pg::raise(
                pg::sqlcode::kActiveTransaction,
                fmt::format("cannot wait for backfill job {} in the transaction that started or changed it",
                            id),
                "Its workers see that once the transaction has committed.");
    }
    const locks::WaitsForJob waits(id);
    // The end of a short job is noticed at once; a long job costs at most ten looks a second.
    std::chrono::milliseconds pause{5};
    auto checked = begun;
    bool warned = false;
    for (;;) {
        // The newest state is needed, also above READ COMMITTED.
        std::optional<job::Job> job;
        {
            const pg::SnapshotScope snapshot;
            const pg::AsExtensionOwner owner;
            job = job::JobTable(owner).find_now(id);
            if (job && !warned && Clock::now() - checked >= kBetweenWorkerChecks) {
                checked = Clock::now();
                warned = has_no_worker(id);
                if (warned)
                    warn_of_no_worker(id);
            }
        }
        if (!job)
            pg::raise(pg::sqlcode::kUndefinedObject, fmt::format("backfill job {} does not exist", id));
        if (job::is_settled(*job) || (limit && Clock::now() - begun >= seconds))
            return pg::return_text(std::string(core::name(job->state)));
        pg::wait_latch(pause, pg::Wait::result);
        pause = std::min(pause * 5 / 4, std::chrono::milliseconds(100));
    }
}
