// Pauses before another try.
#pragma once

#include <chrono>

namespace partbackfill::core {

using Milliseconds = std::chrono::milliseconds;

// Exponential back-off with equal jitter: half of min(cap, base * 2^attempt), and of the
// other half the share `jitter` in [0, 1). Tries that failed together do not come back
// together. `attempt` counts from 0. Source: "Exponential Backoff And Jitter" (AWS
// Architecture Blog, 2015), "equal jitter".
Milliseconds backoff(int attempt, double jitter, Milliseconds base, Milliseconds cap);

// The pause before a partition is tried again after its worker died: a source that
// crashes the server must not do so in a loop. `crashes` counts from 1.
Milliseconds crash_pause(Milliseconds unit, int crashes);

} // namespace partbackfill::core
