// Which sessions wait for this one, as the lock manager itself has it: no query is
// run, so that all of this is legal inside one, in parallel mode too.
//
// The server finds a deadlock only among those who stand in a lock's queue. Whoever
// holds locks and waits in another way, by polling or by sleeping, has to ask
// whether the holder it waits for waits for it, and must then give up what it holds.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

namespace partbackfill::engine {

// How long a session may wait for a lock of a worker's while the worker itself only
// waits. The wait may be for something that lasts as long as the lock is held.
inline constexpr std::chrono::seconds kLongestHold{5};

// Whether one of those processes waits for a lock of this process, directly, through
// others, or behind others in a queue.
bool one_waits_for_us(const std::vector<int> &pids);

// A process that has waited for so long for a lock that this process or a parallel
// worker of its own holds.
std::optional<int> waiter_since(std::chrono::milliseconds least);

} // namespace partbackfill::engine
