// Which sessions wait for this one, from the lock manager itself. The functions run no query,
// so that they are legal inside one, in parallel mode too.
//
// The server finds a deadlock only among sessions in the queue of a lock. A worker that holds
// locks and waits in another way, by polling or by sleeping, has to ask whether the holder
// that it waits for waits for the worker, and must then give up its locks.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

namespace partbackfill::locks {

// How long a session may wait for a lock of a worker that itself only waits, perhaps for
// something that lasts as long as the lock is held.
inline constexpr std::chrono::seconds kLongestHold{5};

// Whether one of the processes waits for a lock of this process, directly, through other
// processes, or behind them in a queue.
bool one_waits_for_us(const std::vector<int> &pids);

// A process that has waited at least that long for a lock of this process or of one of its
// parallel workers; nullopt when there is none.
std::optional<int> waiter_since(std::chrono::milliseconds least);

} // namespace partbackfill::locks
