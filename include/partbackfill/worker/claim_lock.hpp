// The session lock of a claim.
#pragma once

#include <cstdint>

namespace partbackfill::worker {

// Releases the lock, which claim_next() or claim_waiting() has taken, at the end of its life.
class ClaimLock {
public:
    ClaimLock(std::int64_t job, int ordinal) : job_(job), ordinal_(ordinal) {}
    ~ClaimLock();
    ClaimLock(const ClaimLock &) = delete;
    ClaimLock &operator=(const ClaimLock &) = delete;

private:
    std::int64_t job_;
    int ordinal_;
};

} // namespace partbackfill::worker
