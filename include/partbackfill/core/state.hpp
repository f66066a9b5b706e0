// The states of a job and of a partition, and every step between them.
//
// A step that is not in the tables of state.cpp does not exist: a call that asks for it is
// an error of the program, never a silent update.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace partbackfill::core {

enum class JobState { running, paused, ready, done, failed, canceled, reverted };
enum class JobEvent {
    finish, // no partition has work left, none failed
    fail,   // all that could be done is done, and at least one partition failed
    pause,
    resume,
    retry, // the job had failed
    cancel,
    built,    // every partition is, and a person decides when they are swapped
    publish,  // that person does
    revert,   // old rows are to come back; the job is running meanwhile
    reverted, // they have, in every partition that had new rows
};

enum class PartitionState { pending, running, ready, done, failed, skipped, canceled, reverted };
enum class PartitionEvent {
    claim,   // a worker takes the partition, also from a dead worker
    built,   // the shadow is complete
    swapped, // readers see the new rows
    defer,   // a lock that the build needs was not granted; the build is tried again later
    retry,   // an attempt failed, another follows
    rebuild, // the shadow is out of date, and is built anew
    fail,    // no further attempt follows
    skip,    // the partition went away or changed its bounds
    pause,   // the build is broken off
    requeue, // the partition had failed, and is to be built again
    reswap,  // the partition had failed, but its shadow is still there
    cancel,
    revert,   // the kept table is to come back
    restore,  // its rows are to come back, in a table that is built of them
    reverted, // readers see the old rows again
    keep_new, // the new rows stay: a revert was given up
    keep_old, // the old rows stay: a revert of a revert was given up
};

class ImpossibleTransition : public std::logic_error {
public:
    using std::logic_error::logic_error;
};

// The state that follows; throws ImpossibleTransition.
JobState next(JobState from, JobEvent event);
PartitionState next(PartitionState from, PartitionEvent event);

// Whether the event may happen.
bool can(JobState from, JobEvent event);

// The states in which the event may happen, for statements that move many rows.
std::vector<std::string> sources(JobEvent event);
std::vector<std::string> sources(PartitionEvent event);

// Whether no work is left for a worker: the job does not run.
bool is_inactive(JobState state);

std::string_view name(JobState state);
std::string_view name(PartitionState state);
std::string_view name(JobEvent event);
std::string_view name(PartitionEvent event);
// The state of that name; throws std::invalid_argument when there is none.
JobState job_state(std::string_view name);
PartitionState partition_state(std::string_view name);

} // namespace partbackfill::core
