// A job by its number, for those who have a say in it.
//
// Its workers run its SQL as its owner: to make them do so, or to change what they run, is
// for who could SET ROLE to him. Who could SET ROLE to the owner of its table may see what
// is done there and put an end to it, which runs nothing of the job's.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// By a function that changes jobs, first of all: an error in a read-only transaction.
void begin_change(const char *function_name);

// Whether the current role may see a job of that owner on that table, pause, cancel and
// await it, and purge what of it the role could drop by hand.
bool may_stop(Oid owner, Oid target);

// The job, or an error: there is none, or the current role could not be its owner.
Job find_own_job(std::int64_t id);

// The job, or an error: there is none, or the current role may not stop it.
Job find_job_to_stop(std::int64_t id);

// Nothing is left to do: neither work nor tidying.
bool at_rest(const Job &job);

// The partition is in another job, whose number is 0 when it is not known.
[[noreturn]] void raise_busy(const std::string &partition, std::int64_t job);
// The job that has it is paused.
[[noreturn]] void raise_paused(const std::string &partition, std::int64_t job);
// The job has failed, and keeps what it built for the partition.
[[noreturn]] void raise_kept(const std::string &partition, std::int64_t job);

} // namespace partbackfill::job
