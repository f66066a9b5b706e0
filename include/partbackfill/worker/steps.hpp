// The sequence of steps from the build of a partition to its swap.
//
// There is one sequence, made in one of two ways: each step in transactions of its own
// (partition_life.cpp), or all in one transaction that keeps writers out (blocking_build.cpp).
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

class Steps {
public:
    virtual ~Steps() = default;
    virtual StepResult build() = 0;    // nothing to do for a partition that is built
    virtual StepResult catch_up() = 0; // with what was written since; nothing to do while writers wait
    virtual StepResult validate() = 0;
    virtual StepResult audit() = 0;
    virtual StepResult swap() = 0;
    // Whether the steps from catch_up() to swap() are to be tried once more, now that one reported `result`.
    // May pause.
    virtual bool tries_again(const StepResult &result) = 0;

    Steps(const Steps &) = delete;
    Steps &operator=(const Steps &) = delete;

protected:
    Steps() = default;
};

// Makes the steps until one is not done. Done when the partition is swapped.
StepResult build_to_swap(Steps &steps, const job::Job &job, const job::Partition &partition);

} // namespace partbackfill::worker
