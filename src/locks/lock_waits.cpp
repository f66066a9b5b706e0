#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
}

#include <algorithm>

#include "partbackfill/locks/lock_waits.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::locks {

namespace {

// A prepared transaction, which waits for nothing, is 0. The memory that the lock manager
// uses for the answer is freed: the caller may be polling for a long time.
std::vector<int> blockers_of(int pid) {
    struct Found {
        MemoryContext context;
        int count;
        const int32 *pids;
    };
    const Found found = pg::guard([&] {
        const MemoryContext own =
            AllocSetContextCreate(CurrentMemoryContext, "partbackfill lock waits", ALLOCSET_DEFAULT_SIZES);
        const MemoryContext before = MemoryContextSwitchTo(own);
        ArrayType *array = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid)));
        MemoryContextSwitchTo(before);
        return Found{own, ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)),
                     reinterpret_cast<const int32 *>(ARR_DATA_PTR(array))};
    });
    std::vector<int> pids(found.pids, found.pids + found.count);
    pg::guard([&] { MemoryContextDelete(found.context); });
    return pids;
}

bool is_ours(const LockInstanceData &lock) {
    return lock.pid == MyProcPid || lock.leaderPid == MyProcPid;
}

bool same_lock(const LOCKTAG &a, const LOCKTAG &b) {
    return memcmp(&a, &b, sizeof(LOCKTAG)) == 0;
}

bool holds_up(const LockInstanceData &holder, const LockInstanceData &waiter) {
    return is_ours(holder) && same_lock(holder.locktag, waiter.locktag) &&
           (GetLockTagsMethodTable(&waiter.locktag)->conflictTab[waiter.waitLockMode] & holder.holdMask) != 0;
}

int find_waiter(const LockData *locks, TimestampTz latest) {
    const LockInstanceData *end = locks->locks + locks->nelements;
    for (const LockInstanceData *waiter = locks->locks; waiter < end; waiter++) {
        if (waiter->waitLockMode == NoLock || waiter->waitStart == 0 || waiter->waitStart > latest ||
            is_ours(*waiter))
            continue;
        for (const LockInstanceData *holder = locks->locks; holder < end; holder++)
            if (holds_up(*holder, *waiter))
                return waiter->pid;
    }
    return 0;
}

} // namespace

bool one_waits_for_us(const std::vector<int> &pids) {
    std::vector<int> known = pids;
    for (size_t i = 0; i < known.size(); i++) {
        if (known[i] == MyProcPid)
            return true;
        if (known[i] == 0)
            continue;
        for (const int pid : blockers_of(known[i]))
            if (std::find(known.begin(), known.end(), pid) == known.end())
                known.push_back(pid);
    }
    return false;
}

std::optional<int> waiter_since(std::chrono::milliseconds least) {
    const int pid = pg::guard([&] {
        LockData *locks = GetLockStatusData();
        const int found =
            find_waiter(locks, GetCurrentTimestamp() - 1000 * static_cast<TimestampTz>(least.count()));
        pfree(locks->locks);
        pfree(locks);
        return found;
    });
    return pid != 0 ? std::optional<int>(pid) : std::nullopt;
}

} // namespace partbackfill::locks
