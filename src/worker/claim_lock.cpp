#include "partbackfill/worker/claim_lock.hpp"

#include "partbackfill/locks/advisory_locks.hpp"

namespace partbackfill::worker {

ClaimLock::~ClaimLock() {
    try {
        locks::release_claim(job_, ordinal_);
    } catch (...) {
        // The session's end releases it; nothing else depends on when.
    }
}

} // namespace partbackfill::worker
