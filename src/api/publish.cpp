// The function that SQL calls to swap all partitions of a job that is ready.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
}

#include <fmt/format.h>

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/job/publication_table.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/registration.hpp"

namespace partbackfill {

namespace {

// What a job that is not ready needs first.
std::string hint_for(const job::Job &job) {
    if (job.publish != job::Publish::manual)
        return "A job started with publish => 'manual' waits for backfill_publish().";
    switch (job.state) {
    case core::JobState::running:
        return fmt::format("Wait for it with backfill_wait({}).", job.id);
    case core::JobState::paused:
        return fmt::format("Go on with it by backfill_resume({}).", job.id);
    case core::JobState::failed:
        return fmt::format("backfill_retry({0}) goes on with it; then backfill_publish({0}).", job.id);
    default:
        return "";
    }
}

void check_is_ready(const job::Job &job) {
    if (job.state != core::JobState::ready)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} is not ready to be published", job.id),
                  fmt::format("Its state is \"{}\".", core::name(job.state)), hint_for(job));
}

[[noreturn]] void raise_not_published(const job::Job &job) {
    const std::string message = fmt::format("could not publish backfill job {}", job.id);
    if (job.state == core::JobState::ready)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState, message, "Its worker could not start.",
                  "See the server's log.");
    std::optional<std::string> error;
    {
        const pg::SnapshotScope newest;
        const pg::AsExtensionOwner owner;
        error = job::PublicationTable(owner).error_of(job.id);
    }
    pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState, message,
              error ? *error : fmt::format("Its state is \"{}\".", core::name(job.state)), hint_for(job));
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_publish: swaps every partition of a ready job in one transaction, and returns how many. A
// worker does it, in transactions of its own: what it did stays when the caller's transaction is rolled
// back, and it goes on when the caller stops waiting. An error when the job is not ready, or when it
// was not published.
// Locks: none of the caller's; those of the worker are in worker/publication.hpp.
PARTBACKFILL_FUNCTION(partbackfill_publish) {
    const pg::Arguments arguments(fcinfo);
    const std::int64_t id = arguments.bigint(0, "job");
    job::begin_change("backfill_publish()");
    if (InSecurityRestrictedOperation())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "cannot publish a backfill within a security-restricted operation");
    job::find_own_job(id); // who may not publish it is told no more
    const job::Job ready = job::read_newest(id);
    check_is_ready(ready);
    job::check_not_in_the_way(ready, "publish");
    const process::Beginner publisher(ready, process::Task::publish);
    const job::Job job =
        publisher.await_settled([](const job::Job &now) { return now.state != core::JobState::ready; });
    if (job.state != core::JobState::done)
        raise_not_published(job);
    const pg::SnapshotScope newest;
    const pg::AsExtensionOwner owner;
    PG_RETURN_INT32(job::PublicationTable(owner).published(id));
}
