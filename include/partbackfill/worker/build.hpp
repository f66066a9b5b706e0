// The step that fills the shadow, builds its indexes and analyzes it.
#pragma once

#include <functional>
#include <string>

#include "partbackfill/job/job.hpp"
#include "partbackfill/throttle/throttler.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// Builds in one transaction; the partition is ready once that has committed. ACCESS SHARE on what the
// source reads, for as long as it takes, and on the live partition at the end. When another session
// and the build would wait for each other, the build is given up, which is reported as locks that were
// not granted.
StepResult build_partition(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler);

// Builds within the caller's transaction; returns the text for the log. At full speed, for a build
// that writers wait for, nothing is slept: the next build pays the debt.
// `before_record` is called once the shadow is complete and before the row of the partition is changed,
// after which who controls the job waits; not for a partition that would shrink.
enum class Speed { throttled, full };
std::string build(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler, Speed speed,
                  const std::function<void()> &before_record = {});

// What follows an error that ended a build, whose transaction is over: an error of contention is
// reported as locks that were not granted, any other is thrown again. To be called where the error
// was caught.
StepResult contended_build(const job::Job &job, job::Partition &partition,
                           const throttle::Throttler &throttler, const pg::Error &error);

} // namespace partbackfill::worker
