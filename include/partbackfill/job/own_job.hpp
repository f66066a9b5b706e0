// A job by its number, for who may control it.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// By a function that changes jobs, first of all: an error in a read-only transaction.
void begin_change(const char *function_name);

// The job, or an error: there is none, or the current role is no member of its
// owner.
Job find_own_job(std::int64_t id);

// Nothing is left to do: neither work nor tidying.
bool at_rest(const Job &job);

// The partition is in another job, whose number is 0 when it is not known.
[[noreturn]] void raise_busy(const std::string &partition, std::int64_t job);
// The job that has it is paused.
[[noreturn]] void raise_paused(const std::string &partition, std::int64_t job);
// The job has failed, and keeps what it built for the partition.
[[noreturn]] void raise_kept(const std::string &partition, std::int64_t job);

} // namespace partbackfill::job
