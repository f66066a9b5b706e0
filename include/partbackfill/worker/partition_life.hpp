// The life of one partition in the hands of a worker.
//
//   step      transactions   phase                             a worker that dies leaves
//   capture   one            creating                          running; the attempt counts
//   create    one            creating                          running; the attempt counts
//   build     one            loading, indexing, validating,    running; the attempt counts
//                            analyzing
//   validate  one each       validating                        ready; only the swap is left
//   swap      one            swapping                          ready; only the swap is left
//   tidy      two                                              done; the end of the job drops the old table
//
// A blocking build makes build, validate and swap in one transaction, and leaves a partition running.
// steps.hpp has the sequence from the build to the swap.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/throttle/throttler.hpp"

namespace partbackfill::worker {

// Works on a claimed partition until it is swapped, or something keeps it from that, and releases
// the claim. `orphaned`: the last worker that had it died. Errors fail the attempt; LostClaim and an
// error after the swap are thrown. Returns when the job was paused or canceled.
void work_on(const job::Job &job, job::Partition &partition, bool orphaned, throttle::Throttler &throttler);

} // namespace partbackfill::worker
