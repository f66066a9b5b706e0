// Starting workers.
#pragma once

#include <cstdint>

#include "partbackfill/job/job.hpp"
#include "partbackfill/pg/error.hpp"

namespace partbackfill::worker {

// What a worker is started with.
struct Assignment {
    Oid database;
    Oid role; // as which it connects
    std::int64_t job;
    std::uint32_t starter; // transaction that must have ended first; 0 for none
    int earlier;           // how many are started before it for the job
};

// The type of workers in pg_stat_activity.
inline constexpr const char *kWorkerType = "partbackfill worker";

// When the current transaction commits, so many workers start for a job that has `alive`
// of them, as its owner, and wait for the transaction to end. A NOTICE when
// partbackfill.max_workers or max_worker_processes allow fewer: the job's own workers have
// the others come later. An error when there are not as many slots, or the job would have none.
void register_workers(const job::Job &job, int count, int alive);
// For what is to be tidied up, as the current role, since the job's owner may be
// unable to connect. Warns when there is no free slot.
void register_tidier(const job::Job &job);

// At once, by a process that has nothing to commit: so many more workers for a job that
// has `alive`, or as many as there is room for; how many.
int register_at_once(const job::Job &job, int count, int alive);
// By a worker that has just started: more were started at once than partbackfill.max_workers.
bool is_one_too_many();

// In the library's initialization by the postmaster: the launcher.
void register_launcher();
// By the launcher: a process that looks for unfinished jobs in a database. Waits for
// its end; false when there is no free slot.
bool look_into_database(Oid database);

// By a worker that could not connect: a process that marks the job. C-style, since
// the worker is on its way out.
void register_obituary(const Assignment &assignment, const char *message);

// What that process is started with.
struct Obituary {
    Assignment assignment;
    char message[96];
};

} // namespace partbackfill::worker
