// The function that SQL calls to bring back the old rows of partitions.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
}

#include <fmt/format.h>

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/revert.hpp"

namespace partbackfill {

namespace {

std::string what_to_wait_for(const job::Job &job) {
    if (job.reverts_from)
        return fmt::format("Wait for it with backfill_wait({}).", job.id);
    if (job.state == core::JobState::running || job.state == core::JobState::paused)
        return fmt::format("Wait for its end, or cancel it with backfill_cancel({}).", job.id);
    if (job.state == core::JobState::ready)
        return "Nothing of it is published yet.";
    return fmt::format("Wait for it with backfill_wait({}).", job.id);
}

void check_has_ended(const job::Job &job) {
    if (!job.tidied || !core::can(job.state, core::JobEvent::revert))
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} has not ended", job.id),
                  job.reverts_from ? "It is being reverted."
                                   : fmt::format("Its state is \"{}\".", core::name(job.state)),
                  what_to_wait_for(job));
}

int moved_now(std::int64_t id, const std::vector<job::RevertedPartition> &partitions) {
    const pg::SnapshotScope newest;
    const pg::AsExtensionOwner owner;
    return job::RevertTable(owner).moved(id, partitions);
}

[[noreturn]] void raise_not_reverted(const job::Job &job, Oid partition, bool force,
                                     const std::vector<job::RevertedPartition> &partitions,
                                     const std::string &since, int reverted) {
    std::string error;
    {
        const pg::SnapshotScope newest;
        const pg::AsExtensionOwner owner;
        error = job::RevertTable(owner).first_error(job.id, partitions, since);
    }
    if (error.empty() && reverted == 0)
        worker::plan_revert(job, partition, force); // says what has come up since
    pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
              fmt::format("could not revert {} of {} partitions of backfill job {}",
                          partitions.size() - static_cast<std::size_t>(reverted), partitions.size(), job.id),
              error.empty() ? "Its worker ended or was canceled." : error,
              fmt::format("backfill_revert({}) tries again.", job.id));
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_revert: the tables with the old rows of a partition, or of all partitions that the job has
// swapped, take their places again, and those with the new rows are kept in their stead; a job all of whose
// partitions are reverted gets its new rows back. Returns how many. A worker does it, in transactions of its
// own, all partitions in one when the job was published so: what it did stays when the caller's transaction
// is rolled back, and it goes on when the caller stops waiting. Rows written since the swap come along with
// on_write => 'catch_up'; otherwise an error says that there are some, unless `force` leaves them with the
// new rows. Locks: none of the caller's; those of the worker are those of a swap.
PARTBACKFILL_FUNCTION(partbackfill_revert) {
    const pg::Arguments arguments(fcinfo);
    const std::int64_t id = arguments.bigint(0, "job");
    const Oid partition = arguments.is_null(1) ? kNoOid : arguments.oid(1, "partition");
    const bool force = !arguments.is_null(2) && arguments.boolean(2, "force");
    job::begin_change("backfill_revert()");
    if (InSecurityRestrictedOperation())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "cannot revert a backfill within a security-restricted operation");
    job::find_own_job(id); // who may not revert it is told no more
    const job::Job ended = job::read_newest(id);
    check_has_ended(ended);
    job::check_not_in_the_way(ended, "revert");
    const std::vector<job::RevertedPartition> partitions = worker::plan_revert(ended, partition, force);
    const std::string since =
        pg::query_row("SELECT pg_catalog.clock_timestamp()::pg_catalog.text", {}).text(0);
    const process::Beginner beginner(ended, process::Task::revert, partition, force);
    const int all = static_cast<int>(partitions.size());
    beginner.await_settled([&](const job::Job &) { return moved_now(id, partitions) == all; });
    const int reverted = moved_now(id, partitions);
    if (reverted < all)
        raise_not_reverted(ended, partition, force, partitions, since, reverted);
    PG_RETURN_INT32(reverted);
}
