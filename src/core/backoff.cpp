#include "partbackfill/core/backoff.hpp"

#include <algorithm>

namespace partbackfill::core {

Milliseconds backoff(int attempt, double jitter, Milliseconds base, Milliseconds cap) {
    // Past 2^20 any sensible base has met its cap; the shift must not overflow.
    const int doublings = std::clamp(attempt, 0, 20);
    const Milliseconds full = std::min(cap, base * (1L << doublings));
    const double share = std::clamp(jitter, 0.0, 1.0);
    return full / 2 +
           Milliseconds(static_cast<long long>(static_cast<double>((full - full / 2).count()) * share));
}

Milliseconds crash_pause(Milliseconds unit, int crashes) {
    return unit * std::max(crashes, 1);
}

} // namespace partbackfill::core
