// Starting the processes of the extension.
#pragma once

#include <cstdint>
#include <functional>

#include "partbackfill/job/job.hpp"
#include "partbackfill/pg/error.hpp"

struct BackgroundWorkerHandle;

namespace partbackfill::process {

// What a process does before it works on the job.
enum class Task { work, publish, revert };

// What a worker is started with.
struct Assignment {
    Oid database;
    Oid role; // as which it connects
    std::int64_t job;
    std::uint32_t starter; // transaction that must have ended first; 0 for none
    int earlier;           // number of workers started before it for the job
    Task task;
    Oid partition; // to be reverted; kNoOid for all of the job
    bool force;    // whatever was written to it since its swap
};

// The type of workers in pg_stat_activity.
inline constexpr const char *kWorkerType = "partbackfill worker";

// Starts `count` workers, as the job's owner, when the current transaction commits; the job has
// `alive` workers already. When partbackfill.max_workers or max_worker_processes allow fewer,
// fewer start, with a NOTICE: the job's own workers start the others later. An error when there
// are not as many slots, or the job would have no worker.
void register_workers(const job::Job &job, int count, int alive);
// Starts a worker, as the current role, that tidies up an inactive job: the job's owner may be
// unable to connect. When the current transaction commits; a WARNING when no slot is free then.
void register_tidier(const job::Job &job);

// Starts up to `count` more workers at once, by a process that has nothing to commit; the job has
// `alive` workers. Returns how many were started.
int register_at_once(const job::Job &job, int count, int alive);

// The process that begins the publication or the revert of a job. It is started at once, whatever becomes of
// the current transaction, and never again. An error when no slot is free.
class Beginner {
public:
    Beginner(const job::Job &job, Task task, Oid partition = kNoOid, bool force = false);
    // Waits until the job is settled and what was begun is `finished`, or the process has ended. The state
    // of the job may be the same before and after. Needs a transaction without locks.
    job::Job await_settled(const std::function<bool(const job::Job &)> &finished) const;

private:
    bool is_alive() const;

    std::int64_t job_;
    BackgroundWorkerHandle *handle_ = nullptr; // in the memory of the current transaction
};

// Starts the workers that an unfinished job lacks; for an inactive job, one that tidies up. Either as
// register_workers() and register_tidier() do, or as register_at_once() does.
enum class StartTime { at_commit, at_once };
struct MissingWorkers {
    int alive;   // before, without the current process
    int missing; // before
    int started; // at once, of those; 0 at commit
};
MissingWorkers start_missing_workers(const job::Job &job, StartTime when);

// Whether more workers than partbackfill.max_workers run: those that have just started check it.
bool too_many_workers();

// Starts the launcher: in the library's initialization by the postmaster.
void register_launcher();
// Starts a process that resumes the unfinished jobs of a database, and waits for its end; false
// when no slot is free.
bool scan_database(Oid database);

// Starts a process that marks the job, by a worker that could not connect. C-style, since that
// worker is ending.
void register_connect_failure(const Assignment &assignment, const char *message);

// What the process that marks the job is started with.
struct ConnectFailure {
    Assignment assignment;
    char message[88];
};

} // namespace partbackfill::process
