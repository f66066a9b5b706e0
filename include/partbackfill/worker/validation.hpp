// The step that validates what makes the swap quick: a proof that a large DEFAULT sibling holds no row
// of the partition (attach), the foreign keys of the shadow (storage).
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Adds and validates them, each in a transaction of its own. Adding takes ACCESS EXCLUSIVE on the
// DEFAULT sibling, or SHARE ROW EXCLUSIVE on the shadow and the table that it refers to, for a
// moment; validating takes SHARE UPDATE EXCLUSIVE on the DEFAULT, or ROW SHARE on the table that is
// referred to, for a scan. Waits for no longer than lock_timeout. Before the shadow is filled only
// the proof, if anything, can be validated.
StepResult validate(const job::Job &job, job::Partition &partition);

// Validates within the transaction of a blocking build, in subtransactions, what could not be
// validated before the rows were there.
StepResult validate_in_blocking_build(const job::Job &job, job::Partition &partition);

// Records the shadow's digest as it is now. The caller holds locks that keep other sessions from
// changing it, and knows that they have not.
void record_shadow_digest(const job::Partition &partition);

} // namespace partbackfill::worker
