// A partition that would lose most of its rows is swapped only with allow_shrink.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "partbackfill/job/job.hpp"
#include "partbackfill/throttle/throttler.hpp"

namespace partbackfill::worker {

// In the build: the rows of the live partition, counted as far as the comparison needs, when the
// `rebuilt` rows are none of them or fewer than half as many; nullopt otherwise. Counts only when
// the planner's estimate leaves it open, in pieces, each under lock_live(): a session that wants
// the partition exclusively, with readers behind it, waits for no more than a piece. `between` runs
// before each piece.
std::optional<std::int64_t> rows_before_shrinking(const job::Job &job, const job::Partition &partition,
                                                  throttle::Throttler &throttler, std::int64_t rebuilt,
                                                  const std::function<void()> &between);

// Whether the partition, once built, must not be swapped for that; and the error that says so.
bool would_shrink(const job::Job &job, const job::Partition &partition);
pg::ErrorFields shrink_error(const job::Job &job, const job::Partition &partition);

} // namespace partbackfill::worker
