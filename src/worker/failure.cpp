#include "partbackfill/worker/failure.hpp"

#include <fmt/format.h>

#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/job/revert_table.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/worker/drop.hpp"

namespace partbackfill::worker {

namespace {

job::Keep kept(const job::Partition &partition, ShadowAfter shadow) {
    if (partition.state != core::PartitionState::ready || shadow == ShadowAfter::dropped)
        return job::Keep::nothing;
    return shadow == ShadowAfter::kept ? job::Keep::for_retry : job::Keep::to_look_at;
}

job::Keep record(job::Partition &partition, core::PartitionEvent event, const pg::ErrorFields &error,
                 job::Milliseconds pause, ShadowAfter shadow) {
    const job::Keep keep = kept(partition, shadow);
    const pg::AsExtensionOwner owner;
    job::PartitionTable(owner).attempt_failed(partition, event, error, pause, keep);
    return keep;
}

void fail(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
          const pg::ErrorFields &error, job::Milliseconds pause, ShadowAfter shadow) {
    if (partition.reverts() && (event == core::PartitionEvent::fail || partition.comes_back()))
        return give_up_revert(job, partition, error);
    job::Keep keep{};
    {
        pg::Transaction transaction;
        keep = record(partition, event, error, pause, shadow);
        transaction.commit();
    }
    finish_failure(job, partition, error, keep);
}

} // namespace

job::Keep record_failure(job::Partition &partition, const pg::ErrorFields &error, ShadowAfter shadow) {
    return record(partition, core::PartitionEvent::fail, error, job::Milliseconds(0), shadow);
}

void keep_as_it_is(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error) {
    {
        const pg::AsExtensionOwner owner;
        job::RevertTable(owner).keep(partition, error);
        if (job.publish != job::Publish::each) // all or none
            job::RevertTable(owner).keep_all(job, nullptr);
    }
    process::log_line(job.id,
                      fmt::format("could not revert partition {}: {}", partition.name, error.message));
}

// What was built for it goes at the end of the job.
void give_up_revert(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error) {
    pg::Transaction transaction;
    keep_as_it_is(job, partition, error);
    transaction.commit();
}

void finish_failure(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                    job::Keep keep) {
    process::log_line(job.id,
                      fmt::format("could not rebuild partition {} in attempt {} of {}: {}", partition.name,
                                  partition.attempts, job.max_attempts, error.message));
    if (keep == job::Keep::for_retry)
        return;
    if (partition.state == core::PartitionState::failed) {
        drop_capture(job, partition.live); // or the end of the job does
        drop_log(job, partition.live);
    }
    if (keep == job::Keep::to_look_at || partition.shadow == kNoOid)
        return;
    pg::Transaction transaction;
    if (!drop_politely(job, partition.shadow))
        return; // the next attempt, or the end of the job, tries again
    {
        const pg::AsExtensionOwner owner;
        job::PartitionTable(owner).forget_shadow(partition);
    }
    transaction.commit();
}

void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause) {
    const auto event =
        partition.attempts < job.max_attempts ? core::PartitionEvent::retry : core::PartitionEvent::fail;
    fail(job, partition, event, error, pause, ShadowAfter::dropped);
}

void fail_for_good(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                   ShadowAfter shadow) {
    fail(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0), shadow);
}

} // namespace partbackfill::worker
