// The live partition of a build or swap, as the catalogs show it.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/swap/method.hpp"
#include "partbackfill/throttle/throttler.hpp"

namespace partbackfill::worker {

const swap::SwapMethod &method_of(const job::Job &job);
// The CHECK constraints on a DEFAULT partition that are proofs of jobs.
std::vector<Oid> proofs_on(Oid partition);

// The partition while it is still the one that the job began with; nullopt when it was dropped,
// detached or given other bounds. An error when the current role may not do to it what the job
// does. Every step asks before it takes a lock, and again under the lock.
std::optional<catalog::Leaf> find_live(const job::Job &job, const job::Partition &partition);

// True when the partition was dropped, detached or given other bounds; asks in a transaction of its own.
// False when that cannot be seen.
bool is_gone(const job::Job &job, const job::Partition &partition);

// Runs `work` under ACCESS SHARE on the partition, within the transaction of a build; the lock
// stays if `work` returns true. Waits for the lock without standing in its queue, in which
// readers would wait behind: a build holds locks for long. Raises an error of contention when a
// holder waits for this build, when a session has waited for this build for kLongestHold,
// whatever the holder does, and after swap_patience.
void lock_live(const job::Job &job, const job::Partition &partition, throttle::Throttler &throttler,
               const std::function<bool()> &work);

} // namespace partbackfill::worker
