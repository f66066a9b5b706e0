// The function that SQL calls to remove what the control tables know of a job.
#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/job/job_end.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/notice.hpp"
#include "partbackfill/shadow/job_schemas.hpp"

using namespace partbackfill;

namespace {

// Says why the job stays, where it does.
bool is_forgettable(const job::Job &job) {
    const std::string stays = fmt::format("backfill job {} stays in the control tables", job.id);
    if (!job::is_settled(job) || job.state == core::JobState::paused) {
        pg::notice(
            stays,
            fmt::format("{}: its state is \"{}\".",
                        core::is_inactive(job.state) && !job.tidied ? "It is being tidied up"
                                                                    : "It has not ended",
                        core::name(job.state)),
            fmt::format("Wait for it with backfill_wait({0}), or end it with backfill_cancel({0}).", job.id));
        return false;
    }
    shadow::drop_empty_schemas(job.id);
    if (shadow::has_schemas(job.id)) {
        pg::notice(stays,
                   fmt::format("Its tables are kept in schema \"{}\" or \"{}\".", shadow::old_schema(job.id),
                               shadow::new_schema(job.id)),
                   job.state == core::JobState::failed
                       ? fmt::format("Drop them with backfill_purge({0}) and backfill_cancel({0}).", job.id)
                       : fmt::format("Drop them with backfill_purge({}).", job.id));
        return false;
    }
    return true;
}

} // namespace

// backfill_forget: returns whether the job left the control tables. One that has not ended, or of
// which tables are kept, stays, and a NOTICE says why. No lock that other sessions can feel.
PARTBACKFILL_FUNCTION(partbackfill_forget) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_forget()");
    const job::Job job = job::lock_own_job(arguments.bigint(0, "job"));
    if (!is_forgettable(job))
        PG_RETURN_BOOL(false);
    const pg::AsExtensionOwner owner;
    job::JobEnd(owner).forget(job.id);
    PG_RETURN_BOOL(true);
}
