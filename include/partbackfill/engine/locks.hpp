// The extension's own advisory locks, and bounded locks on tables.
//
// Liveness is a lock, never a time: a worker holds a lock on its job and one on
// the partition it works on for as long as its session lives. They are advisory
// locks of a kind (field4 >= 3) that no SQL function can ask for.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Session locks; each try_ returns false at once when another session is in the way.
void share_job(std::int64_t job);     // a worker is there; waits while another ends the job
void unshare_job(std::int64_t job);
bool try_end_job(std::int64_t job);   // no worker is there any more: the last one ends the job
void release_end_job(std::int64_t job);
bool try_claim(std::int64_t job, int ordinal);
void release_claim(std::int64_t job, int ordinal);
bool holds_claim(std::int64_t job, int ordinal);

// A transaction lock around making the job's schemas.
void lock_schemas(std::int64_t job);

// Processes that hold the job's lock: its live workers.
std::vector<int> job_workers(std::int64_t job);

// ACCESS SHARE on the table, to the end of the transaction; false when it was not
// had within the limit.
bool lock_shared(Oid table, std::chrono::milliseconds limit);

// ACCESS EXCLUSIVE on each table in turn, to the end of the transaction. Only for
// the first it stands in the lock queue, for no longer than `limit` (0: not at
// all); the others must be free at once. False when a lock was not had; the
// transaction must then be aborted, which gives back what was had.
// `first` becomes the time at which the first of them was had.
bool lock_exclusively(const std::vector<Oid> &tables, std::chrono::milliseconds limit,
                      std::chrono::steady_clock::time_point *first);

// Which processes hold or await locks on the tables that stand in the way.
std::string lock_holders(const std::vector<Oid> &tables);

} // namespace partbackfill::engine
