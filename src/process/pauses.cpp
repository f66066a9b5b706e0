#include "partbackfill/process/pauses.hpp"

#include <random>

#include "partbackfill/core/backoff.hpp"
#include "partbackfill/pg/guc.hpp"

namespace partbackfill::process {

namespace {

using job::Milliseconds;

constexpr Milliseconds kRetryBase{1000};
constexpr Milliseconds kRetryCap{60000};
constexpr Milliseconds kSwapBase{200};
constexpr Milliseconds kSwapCap{2000};

double jitter() {
    std::random_device device;
    return std::uniform_real_distribution<double>(0, 1)(device);
}

} // namespace

Milliseconds retry_pause(int failures) {
    return core::backoff(failures - 1, jitter(), kRetryBase, kRetryCap);
}

Milliseconds swap_pause(int tries) {
    return core::backoff(tries, jitter(), kSwapBase, kSwapCap);
}

Milliseconds crash_pause(int crashes) {
    return core::crash_pause(pg::crash_pause_unit(), crashes);
}

} // namespace partbackfill::process
