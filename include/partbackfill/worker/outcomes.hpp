// What a step of a partition reports, and what follows when the next step cannot be made.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/locks/table_locks.hpp"

namespace partbackfill::worker {

enum class StepOutcome {
    done,               // the next step may be made
    held,               // the partition is built, and is swapped together with the others of the job
    settled,            // the step has recorded what becomes of the partition
    partition_gone,     // the partition was dropped, detached or given other bounds
    locks_not_granted,  // others are in the way
    not_prepared,       // what the swap needs has to be validated first, once more
    would_shrink,       // the partition would lose most of its rows
    audit_failed,       // an audit gave a row, which the error has
    rows_written,       // rows were written that the shadow lacks
    keys_left,          // rows were written whose keys could not be caught up with in time
    shadow_changed,     // the shadow is not as it was built
    definition_changed, // the definition of the partition is not the one that the shadow has
};

struct StepResult {
    StepOutcome outcome = StepOutcome::done;
    std::vector<locks::TableLock> locks{}; // not granted
    std::chrono::duration<double> lock_wait{0};
    std::string reason{};    // for waiting, when no session is in the way of the locks any more
    pg::ErrorFields error{}; // of audit_failed

    bool is_done() const noexcept { return outcome == StepOutcome::done; }
};

// How often a partition is built again because rows were written to it, or the shadow changed.
inline constexpr int kMostRebuilds = 3;

// Whether the partition is built while writers wait: from the start (on_write => 'block'), or
// at last, after kMostRebuilds.
bool blocks_writers(const job::Job &job, const job::Partition &partition);

// Records what follows a step that was not done: the partition is skipped, deferred, built again
// or has failed. In no transaction, once the step's own has ended.
void settle(const job::Job &job, job::Partition &partition, const StepResult &result);

// Marks the partition as skipped and drops its shadow, within the caller's transaction.
void skip(const job::Job &job, job::Partition &partition);
// Makes the partition pending again and drops its shadow, which is out of date.
void rebuild(const job::Job &job, job::Partition &partition, const std::string &reason);

// Announces the partition's state by NOTIFY, in a transaction of its own. An error is logged only.
void announce(const job::Partition &partition);

} // namespace partbackfill::worker
