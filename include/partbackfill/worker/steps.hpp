// The steps of one partition: create, build, swap, tidy. Each is a transaction,
// or a few, of its own; a worker that dies loses at most the step it was in.
#pragma once

#include <cstdint>

#include "partbackfill/engine/swap.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/pace.hpp"

namespace partbackfill::worker {

enum class StepOutcome {
    done,       // on to the next step
    skipped,    // the partition went away or changed bounds; it is marked so
    postponed,  // it did not get its locks; the partition waits, ready or pending
    unprepared, // prepare_step() comes first, once more
    outdated,   // what was built is out of date; the partition is pending again
    failed,     // it waited longer than swap_patience; it is marked so
};

// Makes the guard on the live partition, unless it is there or nobody wants it.
// SHARE ROW EXCLUSIVE for a moment, in whose queue it stands for no longer than
// lock_timeout: writers wait, readers do not.
StepOutcome guard_step(const job::Job &job, job::Partition &partition);

// Makes the shadow. No lock that others can feel.
StepOutcome create_step(const job::Job &job, job::Partition &partition);

// Fills, indexes and analyzes it: one transaction. ACCESS SHARE on what the
// source reads, for as long as it takes, unless others and it would wait for each
// other: then it is given up and the partition postponed.
StepOutcome build_step(const job::Job &job, job::Partition &partition, Pacer &pacer);

// Builds and swaps in one transaction, at full speed, from whose snapshot on no writer gets in:
// EXCLUSIVE on what the method names (attach: the parent and the leaf).
// When readers keep the swap from its locks for more than a few short tries,
// writers are let go and the partition is built again: one who has read and now
// waits to write would wait for us, and we for him.
StepOutcome held_step(const job::Job &job, job::Partition &partition, Pacer &pacer);
// Whether that is how the partition's turn goes.
bool holds_writers(const job::Job &job, const job::Partition &partition);

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

// A partition that has lost most of its rows is swapped only with allow_shrink: fails
// otherwise. What was built is kept if the build has committed, so that a retry swaps it.
StepOutcome check_shrink_step(const job::Job &job, job::Partition &partition);

// Drops the old partition unless it is kept. It is out of readers' sight.
void tidy_step(const job::Job &job, const job::Partition &partition);

// Tells of the partition's state by NOTIFY, in a transaction of its own.
void announce(const job::Partition &partition);

// Why a partition is skipped that is not what the job began with.
inline constexpr const char *kGone = "the partition was dropped, detached or given other bounds";
// Marks the partition as skipped; its shadow, if it has one, goes. Within the
// caller's transaction.
void skip(const job::Job &job, job::Partition &partition, const std::string &reason);

// Marks the attempt as failed, and then drops its shadow: whatever becomes of
// that, the attempt has failed. Kept, with its guard, is one that is built, so that a retry needs
// nothing but the swap.
enum class Remains { dropped, kept };
void record_failure(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
                    const pg::ErrorFields &error, job::Milliseconds pause,
                    Remains remains = Remains::dropped);

// Marks a failed attempt, drops its shadow, and decides whether another follows.
void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause);

// So far the rows of a partition that would shrink are counted, for the error.
inline constexpr std::int64_t kCountedAnyway = 10000;

// How often a partition is built again because it was written to.
inline constexpr int kMostRebuilds = 3;
// The same when its definition was changed, which nobody does for long.
inline constexpr int kMostRedefinitions = 10;
// Why it is when its shadow is not what was built.
inline constexpr const char *kTouched = "what was built for it was changed";
inline constexpr const char *kChanged =
    "the definition of the partition or of its parent was changed meanwhile";

const engine::SwapMethod &method_of(const job::Job &job);
// The proofs that jobs have on a DEFAULT partition.
std::vector<Oid> proofs_on(Oid partition);
// The build itself and the swap itself, within the caller's transaction. The first
// returns what the log shall say. At full speed, which is for builds that somebody
// waits for, what is owed is waited for afterwards. The second waits for up to `moment`
// until it is worth to queue for its locks.
enum class Speed { paced, full };
std::string build(const job::Job &job, job::Partition &partition, Pacer &pacer, Speed speed);
engine::SwapRequest swap_request(const job::Job &job, const job::Partition &partition);
engine::SwapResult swap(const job::Job &job, job::Partition &partition, job::Milliseconds moment);
// Takes the shadow as it is now for what was built. The caller holds what keeps
// others from changing it, and knows that they have not.
void reseal(const job::Partition &partition);
// What follows the commit of a swap.
StepOutcome after_swap(const job::Job &job, job::Partition &partition, const engine::SwapResult &result);

// Locks were not had, and the transaction that wanted them was given up: the
// partition is tried again later, or has failed for good after swap_patience.
// `reason` is what it waits for when nobody is in the way of them any more.
StepOutcome postpone(const job::Job &job, job::Partition &partition, std::chrono::duration<double> lock_wait,
                     const std::vector<engine::TableLock> &locks, const std::string &reason = "");
// To be called where that error ended a build: when it is one of contention, others
// have got the locks that the build held, and the partition is postponed. Any other is
// thrown again.
StepOutcome postpone_build(const job::Job &job, job::Partition &partition, const Pacer &pacer,
                           const pg::Error &error);
// The shadow is out of date: it goes, and the partition is pending again.
StepOutcome rebuild(const job::Job &job, job::Partition &partition, const std::string &reason);
// It is out of date because the partition was written to: as rebuild(), but it
// fails instead when that has happened kMostRebuilds times.
StepOutcome overtaken(const job::Job &job, job::Partition &partition);
// The same for a shadow that somebody changed, or a foreign key.
StepOutcome touched(const job::Job &job, job::Partition &partition);
// The same for a definition that is another now, kMostRedefinitions times.
StepOutcome redefined(const job::Job &job, job::Partition &partition);

// What has to be had to drop a table of the job; nothing when it is gone.
std::vector<engine::TableLock> locks_to_drop(const job::Job &job, Oid table);
// How long it may be waited for a lock on the table to take away what the job left there.
job::Milliseconds tidying_limit(const job::Job &job, Oid table);
// Drops a shadow or an old partition, within the caller's transaction. False when
// somebody uses it, or a table that it refers to: it is still there then. Raises when
// it has old rows that the current role could not drop by hand.
bool drop_politely(const job::Job &job, Oid table);
// Drops the guard, in a transaction of its own; false when writers were in the way.
bool unguard(const job::Job &job, Oid partition);

// Ends a job in which nothing is left to do: drops what lies around and marks it.
void end_job(const job::Job &job);

} // namespace partbackfill::worker
