// The extension's own advisory locks.
//
// Liveness is a lock, never a time: a worker holds a lock on its job and one on the
// partition on which it works for as long as its session lives. The locks are advisory locks
// of kinds (lock_classes.hpp) that no SQL function can ask for.
#pragma once

#include <cstdint>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::locks {

// ----- session locks; each try_ returns false at once when another session is in the way

// Shared job lock of each live worker. Waits while another worker ends the job.
void share_job(std::int64_t job);
void unshare_job(std::int64_t job);
bool shares_job(std::int64_t job); // whether this process has it
// Exclusive job lock; granted only when no worker holds the shared one. The last worker ends
// the job under it.
bool try_end_job(std::int64_t job);
void release_end_job(std::int64_t job);

// Worker slot of a job, numbered from 1 to the number of workers that the job wants. A worker
// that finds no free slot leaves, so that starting too many workers does no harm.
bool try_worker_slot(std::int64_t job, int slot);
void release_worker_slot(std::int64_t job, int slot);

// Claim on a partition of the job.
bool try_claim(std::int64_t job, int ordinal);
void release_claim(std::int64_t job, int ordinal);
bool holds_claim(std::int64_t job, int ordinal); // whether this process has it
// Ordinals of the partitions of the job that workers have claimed. Legal inside a running
// query.
std::vector<int> claims_of(std::int64_t job);

// ----- transaction locks; each waits

void lock_choice(std::int64_t job);  // held while a worker chooses a partition
void lock_schemas(std::int64_t job); // held while the job's schemas are made

// ----- the workers of a job, found by the job lock

// Interrupts the job's live workers once the current transaction has committed.
void cancel_workers_at_commit(std::int64_t job, const char *type);

// Process IDs of the job's live workers but this one.
std::vector<int> job_workers(std::int64_t job);

} // namespace partbackfill::locks
