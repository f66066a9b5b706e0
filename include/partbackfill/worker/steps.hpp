// The steps of one partition: create, build, swap, tidy. Each is a transaction,
// or a few, of its own; a worker that dies loses at most the step it was in.
#pragma once

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

enum class StepOutcome {
    done,      // on to the next step
    skipped,   // the partition went away or changed bounds; it is marked so
    postponed, // the swap did not get its locks; the partition is ready and waits
    unprepared, // prepare_step() comes first, once more
    outdated,  // what was built is out of date; the partition is pending again
    failed,    // it waited longer than swap_patience; it is marked so
};

// Makes the shadow. No lock that others can feel.
StepOutcome create_step(const job::Job &job, job::Partition &partition);

// Fills, indexes and analyzes it: one transaction. ACCESS SHARE on what the
// source reads, for as long as it takes.
void build_step(const job::Job &job, job::Partition &partition);

// A crash of the server empties an unlogged table. Raises when a shadow that was
// built has lost its rows so: it must not be shown to anybody.
void check_not_emptied(const job::Partition &partition);

// What the swap needs to be quick: a proof that a large DEFAULT sibling holds no
// row of the partition. Adding it takes ACCESS EXCLUSIVE on the DEFAULT for a
// moment, bounded by lock_timeout; validating it SHARE UPDATE EXCLUSIVE for a scan.
StepOutcome prepare_step(const job::Job &job, job::Partition &partition);

// Exchanges it with the live partition. ACCESS EXCLUSIVE on the parent, the
// partition and a DEFAULT sibling for some milliseconds; in their queues for no
// longer than lock_timeout.
StepOutcome swap_step(const job::Job &job, job::Partition &partition);

// Drops the old partition unless it is kept. It is out of readers' sight.
void tidy_step(const job::Job &job, const job::Partition &partition);

// Why a partition is skipped that is not what the job began with.
inline constexpr const char *kGone = "the partition was dropped, detached or given other bounds";
// Marks the partition as skipped; its shadow, if it has one, goes. Within the
// caller's transaction.
void skip(const job::Job &job, job::Partition &partition, const std::string &reason);

// Marks the attempt as failed, and then drops its shadow: whatever becomes of
// that, the attempt has failed.
void record_failure(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
                    const pg::ErrorFields &error, job::Milliseconds pause);

// Marks a failed attempt, drops its shadow, and decides whether another follows.
void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause);

// Ends a job in which nothing is left to do: drops what lies around and marks it.
void end_job(const job::Job &job);

} // namespace partbackfill::worker
