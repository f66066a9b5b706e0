// The step that swaps all partitions of a job in one transaction.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/throttle/throttler.hpp"

namespace partbackfill::worker {

// Publishes the job when nothing else is left to do for it and no other worker does: brings each built
// partition up to date, then swaps all of them in one transaction, so that readers see all or nothing.
// A partition that cannot be swapped is settled as after any of its swaps, and all others wait for it.
// False when there was nothing to publish.
//
// Takes the locks of all swaps together, politely, and holds them until all are made: some milliseconds
// a partition. With on_write => 'catch_up' writers are kept out before that, too, for lock_timeout and
// ten milliseconds a partition at most.
bool publish_if_due(const job::Job &job, throttle::Throttler &throttler);

// Makes a job run that is ready, and starts a worker for it, which comes back should it die. False when there
// was no free slot for one: the current process has to be the worker then, or when the job is not ready.
bool begin_publication(std::int64_t job);

} // namespace partbackfill::worker
