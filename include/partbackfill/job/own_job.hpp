// A job by its number, for the roles that may control it.
//
// The workers run the job's SQL as its owner: only a role that could SET ROLE to the owner may
// start them or change what they run. A role that could SET ROLE to the owner of the table may
// see the job, pause and cancel it, which runs none of the job's SQL.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// What a function that changes jobs does first: an error in a read-only transaction.
void begin_change(const char *function_name);

// The job by the newest state, also above READ COMMITTED. Raises when it is gone.
Job read_newest(std::int64_t id);

// Raises when the worker that the caller is about to wait for would wait for the caller's transaction. `verb`
// says what the caller wants of the job.
void check_not_in_the_way(const Job &job, const char *verb);

// Whether the current role may see a job of that owner on that table, pause, cancel and await it,
// and purge those of its tables that the role could drop by hand.
bool may_stop(Oid owner, Oid target);

// The job. An error when there is none, or the current role could not SET ROLE to its owner.
Job find_own_job(std::int64_t id);

// The job. An error when there is none, or the current role may not stop it.
Job find_job_to_stop(std::int64_t id);

// The job, its row locked FOR NO KEY UPDATE to the end of the transaction: its state is what it stays
// until the caller changes it. Errors as above.
Job lock_own_job(std::int64_t id);
Job lock_job_to_stop(std::int64_t id);

// Whether neither work nor tidying is left to do.
bool is_settled(const Job &job);

// For a partition that is in another job, whose number is 0 when it is not known.
[[noreturn]] void raise_busy(const std::string &partition, std::int64_t job);
// For a partition of a paused or ready job.
[[noreturn]] void raise_resting(const std::string &partition, std::int64_t job, core::JobState state);
// What makes a paused or ready job go on; empty for another state.
std::string way_on(std::int64_t job, core::JobState state);
// For a partition of a job that has failed and keeps what it built.
[[noreturn]] void raise_kept(const std::string &partition, std::int64_t job);

} // namespace partbackfill::job
