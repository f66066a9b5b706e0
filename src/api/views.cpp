// The functions that the views call.
#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/job/activity_view.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/results.hpp"
#include "partbackfill/pg/rights.hpp"

using namespace partbackfill;

// backfill_live: for the views. A row for each partition that a live worker has claimed, of the
// jobs that the caller may see.
PARTBACKFILL_FUNCTION(partbackfill_live_1_1) {
    std::vector<job::ActivityRow> found;
    {
        const pg::AsExtensionOwner owner;
        found = job::ActivityView(owner).activity();
    }
    std::vector<pg::TextRow> rows;
    for (auto &row : found)
        if (job::may_stop(row.owner, row.target))
            rows.push_back(std::move(row.columns));
    return pg::return_rows(fcinfo, rows);
}

// backfill_without_worker: for the views. Jobs that have no worker until backfill_resume is
// called.
PARTBACKFILL_FUNCTION(partbackfill_without_worker) {
    std::vector<job::IdleJob> jobs;
    {
        const pg::AsExtensionOwner owner;
        jobs = job::ActivityView(owner).jobs_without_worker();
    }
    std::vector<pg::TextRow> rows;
    for (const auto &idle : jobs)
        if (job::may_stop(idle.owner, idle.target))
            rows.push_back(
                {std::to_string(idle.job), fmt::format("no worker: call backfill_resume({})", idle.job)});
    return pg::return_rows(fcinfo, rows);
}

// backfill_may_see, backfill_may_act_as: for the views, which call them as the reader.
PARTBACKFILL_FUNCTION(partbackfill_may_see) {
    const pg::Arguments arguments(fcinfo);
    PG_RETURN_BOOL(job::may_stop(arguments.oid(0, "owner"), arguments.oid(1, "target")));
}

PARTBACKFILL_FUNCTION(partbackfill_may_act_as) {
    const pg::Arguments arguments(fcinfo);
    PG_RETURN_BOOL(pg::may_act_as(arguments.oid(0, "owner")));
}
