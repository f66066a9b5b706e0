#include "partbackfill/worker/steps.hpp"

#include "partbackfill/worker/shrinking.hpp"

namespace partbackfill::worker {

StepResult build_to_swap(Steps &steps, const job::Job &job, const job::Partition &partition) {
    StepResult result = steps.build();
    if (!result.is_done())
        return result;
    if (would_shrink(job, partition))
        return {StepOutcome::would_shrink};
    do {
        result = steps.catch_up();
        if (result.is_done())
            result = steps.validate();
        if (result.is_done())
            result = steps.audit();
        if (result.is_done())
            result = steps.swap();
    } while (steps.tries_again(result));
    return result;
}

} // namespace partbackfill::worker
