// Waits that serve interrupts and reloads.
#pragma once

#include <chrono>

namespace partbackfill::pg {

enum class Wait { delay, idle, backoff, result, throttle };

// Sleeps on the process's latch for at most that long; comes back early when
// the latch is set. A cancel or a termination is raised as an error. Reads the
// configuration files again after a SIGHUP.
void wait_latch(std::chrono::milliseconds timeout, Wait why);

// Sleeps for the whole duration, however often the latch is set.
void sleep(std::chrono::milliseconds duration, Wait why);

// Drops a cancel that has arrived but was not served yet.
void forget_cancel() noexcept;

} // namespace partbackfill::pg
