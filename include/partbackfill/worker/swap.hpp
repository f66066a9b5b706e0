// The step that exchanges the shadow and the live partition.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/swap/swap.hpp"
#include "partbackfill/worker/audit.hpp"
#include "partbackfill/worker/catch_up.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Swaps in a transaction of its own. ACCESS EXCLUSIVE on what the method names, for some
// milliseconds: attach locks the parent, the partition and a DEFAULT sibling, storage the partition.
// Stands in their queues for no longer than lock_timeout.
// With a CatchUp, writers are kept out before that, for no longer than lock_timeout in all, while the
// last rows are refreshed, and the audits asked again if there were some: EXCLUSIVE on what the method
// names against writers.
StepResult swap_partition(const job::Job &job, job::Partition &partition, CatchUp *catch_up, Audits &audits);

// The parts of that step, for a transaction of the caller's: the exchange, for whose locks a moment is
// awaited for up to `moment`, and which are waited for up to `limit`; what has to be so before; the step's
// result; and what follows the commit.
swap::SwapResult exchange(const job::Job &job, job::Partition &partition, job::Milliseconds moment,
                          job::Milliseconds limit);
// Done, or locks_not_granted while the shard moves to another node, or a snapshot does not see the rows that
// were built: before any lock on a table.
StepResult await_others(const job::Job &job, const job::Partition &partition);
StepResult result_of(const swap::SwapResult &swap);
void record_swapped(job::Partition &partition, const swap::SwapResult &swap);
void finish_swap(const job::Job &job, job::Partition &partition, const swap::SwapResult &swap,
                 std::chrono::duration<double> locked_for);

// What the swap method is told of the partition.
swap::SwapRequest swap_request(const job::Job &job, const job::Partition &partition);

// Whether rows were written to the live partition since the build, which the shadow lacks. In a
// transaction of its own.
bool lacks_writes(const job::Job &job, const job::Partition &partition);

// An error when a crash of the server has emptied the shadow of an unlogged partition after its
// build: it must not be swapped. ACCESS SHARE on the shadow, politely; locks_not_granted without it.
StepResult check_not_emptied(const job::Job &job, const job::Partition &partition);

} // namespace partbackfill::worker
