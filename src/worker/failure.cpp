#include "partbackfill/worker/failure.hpp"

#include <fmt/format.h>

#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/drop.hpp"
#include "partbackfill/worker/log.hpp"

namespace partbackfill::worker {

namespace {

void record_failure(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
                    const pg::ErrorFields &error, job::Milliseconds pause, ShadowAfter shadow) {
    const bool keep = shadow == ShadowAfter::kept && partition.state == core::PartitionState::ready;
    {
        pg::Transaction transaction;
        {
            const pg::AsExtensionOwner owner;
            job::PartitionTable(owner).attempt_failed(partition, event, error, pause, keep);
        }
        transaction.commit();
    }
    log_line(job.id, fmt::format("could not rebuild partition {} in attempt {} of {}: {}", partition.name,
                                 partition.attempts, job.max_attempts, error.message));
    if (keep)
        return;
    if (event == core::PartitionEvent::fail) {
        drop_capture(job, partition.live); // or the end of the job does
        drop_log(job, partition.live);
    }
    if (partition.shadow == kNoOid)
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

} // namespace

void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause) {
    const auto event =
        partition.attempts < job.max_attempts ? core::PartitionEvent::retry : core::PartitionEvent::fail;
    record_failure(job, partition, event, error, pause, ShadowAfter::dropped);
}

void fail_for_good(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                   ShadowAfter shadow) {
    record_failure(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0), shadow);
}

} // namespace partbackfill::worker
