// The extension's own advisory locks.
//
// Liveness is a lock, never a time: a worker holds a lock on its job and one on
// the partition it works on for as long as its session lives. They are advisory
// locks of a kind (field4 >= 3) that no SQL function can ask for.
#pragma once

#include <cstdint>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Session locks; each try_ returns false at once when another session is in the way.
void share_job(std::int64_t job); // a worker is there; waits while another ends the job
void unshare_job(std::int64_t job);
bool shares_job(std::int64_t job);
bool try_end_job(std::int64_t job); // no worker is there any more: the last one ends the job
void release_end_job(std::int64_t job);
// A job has as many places, numbered from 1, as it wants workers: one that finds
// none leaves, so that starting too many does no harm.
bool try_place(std::int64_t job, int place);
void release_place(std::int64_t job, int place);
bool try_claim(std::int64_t job, int ordinal);
void release_claim(std::int64_t job, int ordinal);
bool holds_claim(std::int64_t job, int ordinal);

// Ordinals of the partitions of the job that some worker has in hand. Legal inside
// a running query.
std::vector<int> claims_of(std::int64_t job);

// Transaction locks: around choosing a partition, and around making the job's schemas.
void lock_choice(std::int64_t job);
void lock_schemas(std::int64_t job);

// Interrupts the job's live workers once the current transaction has committed.
void cancel_workers_at_commit(std::int64_t job, const char *type);

// Processes that hold the job's lock: its live workers.
std::vector<int> job_workers(std::int64_t job);

} // namespace partbackfill::engine
