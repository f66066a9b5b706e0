#include "partbackfill/job/own_job.hpp"

#include <fmt/format.h>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/publication_table.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::job {

void begin_change(const char *function_name) {
    pg::prevent_if_read_only(function_name);
    const pg::AsExtensionOwner owner;
    UndecodedMark(owner).restore();
}

namespace {

Job find_job(std::int64_t id) {
    std::optional<Job> found;
    bool is_foreign = false;
    {
        const pg::AsExtensionOwner owner;
        found = JobTable(owner).find(id);
        is_foreign = !found && JobTable(owner).is_of_another_installation(id);
    }
    if (is_foreign)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} was started by another installation of the extension", id),
                  "Its row came here with a copy of the control tables; the tables that it names are not "
                  "those of this database.",
                  "Control it in the database in which it was started.");
    if (!found)
        pg::raise(pg::sqlcode::kUndefinedObject, fmt::format("backfill job {} does not exist", id), "",
                  "backfill_status lists your jobs.");
    return *found;
}

[[noreturn]] void raise_not_yours(const Job &job, const std::string &hint) {
    pg::raise(pg::sqlcode::kInsufficientPrivilege,
              fmt::format("permission denied for backfill job {}", job.id),
              fmt::format("It belongs to role \"{}\".", pg::role_name(job.owner)), hint);
}

} // namespace

bool may_stop(Oid owner, Oid target) {
    if (pg::may_act_as(owner))
        return true;
    const auto table_owner = pg::owner_of(target);
    return table_owner && pg::may_act_as(*table_owner);
}

Job find_own_job(std::int64_t id) {
    Job job = find_job(id);
    if (!pg::may_act_as(job.owner))
        raise_not_yours(job, may_stop(job.owner, job.target)
                                 ? "As an owner of its table you may pause and cancel it."
                                 : "");
    return job;
}

Job find_job_to_stop(std::int64_t id) {
    Job job = find_job(id);
    if (!may_stop(job.owner, job.target))
        raise_not_yours(job, "");
    return job;
}

namespace {

// Who ends or changes the job meanwhile is waited for.
void lock_job(std::int64_t id) {
    const pg::AsExtensionOwner owner;
    JobTable(owner).lock(id);
}

} // namespace

Job lock_own_job(std::int64_t id) {
    lock_job(find_own_job(id).id);
    return find_own_job(id);
}

Job lock_job_to_stop(std::int64_t id) {
    lock_job(find_job_to_stop(id).id);
    return find_job_to_stop(id);
}

Job read_newest(std::int64_t id) {
    const pg::SnapshotScope newest; // also above READ COMMITTED
    const pg::AsExtensionOwner owner;
    auto job = JobTable(owner).find_now(id);
    if (!job)
        pg::raise(pg::sqlcode::kUndefinedObject, fmt::format("backfill job {} does not exist", id));
    return *job;
}

void check_not_in_the_way(const Job &job, const char *verb) {
    std::optional<std::string> table;
    bool changed = false;
    {
        const pg::PinnedSettings pinned;
        const pg::AsExtensionOwner owner;
        changed = JobTable(owner).is_of_this_transaction(job.id);
        table = PublicationTable(owner).table_locked_here(job);
    }
    if (changed || table)
        pg::raise(pg::sqlcode::kActiveTransaction,
                  fmt::format("cannot {} backfill job {} in a transaction that {}", verb, job.id,
                              changed ? "changed it" : fmt::format("has used table {}", *table)),
                  "The job's worker would wait for this transaction.", "Commit first.");
}

bool is_settled(const Job &job) {
    return core::is_inactive(job.state) && job.tidied;
}

void raise_busy(const std::string &partition, std::int64_t job) {
    pg::raise(pg::sqlcode::kObjectInUse,
              fmt::format("partition \"{}\" already belongs to an unfinished job", partition),
              job != 0 ? fmt::format("It is job {}.", job) : "Another session has just started a job on it.",
              job != 0 ? fmt::format(
                             "Wait for it with backfill_wait({0}), or end it with backfill_cancel({0}).", job)
                       : "");
}

std::string way_on(std::int64_t job, core::JobState state) {
    if (state == core::JobState::paused)
        return fmt::format("backfill_resume({})", job);
    if (state == core::JobState::ready)
        return fmt::format("backfill_publish({})", job);
    return "";
}

void raise_resting(const std::string &partition, std::int64_t job, core::JobState state) {
    pg::raise(
        pg::sqlcode::kObjectInUse,
        fmt::format("partition \"{}\" already belongs to an unfinished job", partition),
        fmt::format("It is job {}, which is {}.", job, core::name(state)),
        fmt::format("Go on with it by {}, or end it with backfill_cancel({}).", way_on(job, state), job));
}

void raise_kept(const std::string &partition, std::int64_t job) {
    pg::raise(pg::sqlcode::kObjectInUse,
              fmt::format("partition \"{}\" is built by a job that failed and may be retried", partition),
              fmt::format("Job {} keeps what it has built for it, and watches for writes to it.", job),
              fmt::format("backfill_retry({0}) swaps what was built, backfill_cancel({0}) drops it.", job));
}

} // namespace partbackfill::job
