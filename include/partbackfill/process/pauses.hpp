// Pauses after something failed, growing and with jitter: workers that failed together do not come
// back together.
#pragma once

#include "partbackfill/job/job.hpp"

namespace partbackfill::process {

// Between tries when no worker slot is free.
inline constexpr job::Milliseconds kNoSlotPause{10000};
// After the attempt of that number failed, or that many errors in a row outside of any attempt.
job::Milliseconds retry_pause(int failures);
// After a swap did not get its locks, having tried so often before.
job::Milliseconds swap_pause(int tries);
// After a worker died that had the partition claimed, the one of that number.
job::Milliseconds crash_pause(int crashes);

} // namespace partbackfill::process
