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
    int earlier; // how many are started before it for the job
};

// Registers a background worker for a job; it starts at once and waits for the
// calling transaction to end. `earlier` were started at the same time. False when the
// server has no free worker slot.
bool try_register_worker(std::int64_t job, Oid role, int earlier);
// The same so many times, as the job's owner; raises when there is no free slot.
void register_workers(const job::Job &job, int count);
// For what is to be tidied up, as the current role, since the job's owner may be
// unable to connect. Warns when there is no free slot.
void register_tidier(const job::Job &job);

// As try_register_worker, by the launcher, which has nothing to commit: the worker
// does not wait for it.
bool try_register_resumed(const job::Job &job, int earlier);

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
