// The function that SQL calls to drop the tables with old rows that a job kept.
#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/job/job_end.hpp"
#include "partbackfill/job/leftovers.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/own_tables.hpp"

using namespace partbackfill;

// backfill_purge: returns how many tables with old rows it dropped. ACCESS EXCLUSIVE on each;
// readers of the partitioned table do not see them any more.
PARTBACKFILL_FUNCTION(partbackfill_purge) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_purge()");
    const job::Job job = job::find_job_to_stop(arguments.bigint(0, "job"));
    if (!job::is_settled(job))
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} has not ended", job.id),
                  fmt::format("Its state is \"{}\".", core::name(job.state)),
                  fmt::format("Wait for it with backfill_wait({}).", job.id));
    std::vector<Oid> tables;
    bool is_over = false;
    {
        const pg::AsExtensionOwner owner;
        tables = job::LeftoverRows(owner).old_tables(job.id);
        is_over = !job::LeftoverRows(owner).keeps_shadow(job.id);
    }
    int dropped = 0;
    for (const Oid table : tables) {
        dropped += shadow::drop_own_table(job.id, table) ? 1 : 0;
        const pg::AsExtensionOwner owner;
        job::LeftoverRows(owner).forget_old(job.id, table);
    }
    if (is_over) // the swap of what is built will need both schemas
        shadow::drop_empty_schemas(job.id);
    {
        const pg::AsExtensionOwner owner;
        job::JobEnd(owner).clear_tidy_error(job.id);
    }
    PG_RETURN_INT32(dropped);
}
