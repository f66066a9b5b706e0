#include "partbackfill/pg/server.hpp"

extern "C" {
#include "common/hashfn.h"
#include "storage/lock.h"
}

#include "partbackfill/locks/label_lock.hpp"
#include "partbackfill/locks/lock_classes.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::locks {

// An advisory lock of a kind that no SQL function can ask for.
// Two labels of one hash wait for each other, without further harm.
void lock_label(Oid owner, const std::string &label) {
    pg::guard([&] {
        LOCKTAG lock;
        const uint32 hash =
            hash_bytes(reinterpret_cast<const unsigned char *>(label.data()), static_cast<int>(label.size()));
        SET_LOCKTAG_ADVISORY(lock, MyDatabaseId, owner, hash, kLabelClass);
        LockAcquire(&lock, ExclusiveLock, false, false);
    });
}

} // namespace partbackfill::locks
