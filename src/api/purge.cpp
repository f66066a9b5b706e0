// The function that SQL calls to drop the tables with old rows that a job kept.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/xact.h"
}

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/job/job_end.hpp"
#include "partbackfill/job/leftovers.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/shadow/own_tables.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill {

namespace {

// Partitions are captured, and their keys logged, for as long as their old rows are kept. Drops what is left
// of that where no session is in the way, since none may wait here; false when some of it stays.
bool drop_watches(const job::Job &job) {
    const pg::PinnedSettings pinned;
    constexpr std::chrono::milliseconds kNoWait{0};
    job::Leftovers left;
    {
        const pg::AsExtensionOwner owner;
        left = job::LeftoverRows(owner).find(job);
    }
    const auto is_needed = [&](Oid table) { return std::ranges::find(left.kept, table) != left.kept.end(); };
    for (const Oid table : writes::captured_tables(job.id)) {
        if (is_needed(table))
            continue;
        if (!locks::lock_politely({{table, locks::LockMode::share_row_exclusive}}, kNoWait))
            return false;
        writes::drop_write_capture(job.id, table);
    }
    for (const Oid table : shadow::logged_tables(job.id)) {
        if (is_needed(table))
            continue;
        if (!locks::lock_politely({{shadow::key_log_of(job.id, table), locks::LockMode::access_exclusive}},
                                  kNoWait))
            return false;
        shadow::drop_key_log(job.id, table);
    }
    const pg::AsExtensionOwner owner;
    job::LeftoverRows(owner).forget(job);
    return true;
}

// Writers wait from the first of these locks to the end of the transaction: within a transaction block, which
// may last, a worker does it afterwards.
void end_watches(const job::Job &job) {
    if (!IsTransactionBlock() && drop_watches(job))
        return;
    {
        const pg::AsExtensionOwner owner;
        job::JobEnd(owner).mark_untidied(job.id);
    }
    process::register_tidier(job);
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_purge: returns how many tables with old rows it dropped. ACCESS EXCLUSIVE on each;
// readers of the partitioned table do not see them any more. SHARE ROW EXCLUSIVE on the live partitions,
// which are not captured any more then. This statement does that where no session is in the way, a worker
// otherwise.
PARTBACKFILL_FUNCTION(partbackfill_purge) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_purge()");
    const job::Job job = job::lock_job_to_stop(arguments.bigint(0, "job"));
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
    if (!tables.empty())
        end_watches(job);
    if (is_over) // the swap of what is built will need both schemas
        shadow::drop_empty_schemas(job.id);
    {
        const pg::AsExtensionOwner owner;
        job::JobEnd(owner).clear_tidy_error(job.id);
    }
    PG_RETURN_INT32(dropped);
}
