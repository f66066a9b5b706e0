#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/lmgr.h"
#include "storage/lock.h"
}

#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/lock_classes.hpp"
#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/lock_holders.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::locks {

namespace {

// Job numbers come from a sequence and do not reach 2^32. If one did, two jobs would share a
// lock, and their workers would wait for each other, without further harm.
LOCKTAG tag(std::int64_t job, int ordinal, uint16 kind) {
    LOCKTAG result;
    SET_LOCKTAG_ADVISORY(result, MyDatabaseId, static_cast<uint32>(job), static_cast<uint32>(ordinal), kind);
    return result;
}

bool acquire(const LOCKTAG &lock, LOCKMODE mode, bool session, bool wait) {
    return pg::guard([&] { return LockAcquire(&lock, mode, session, !wait) != LOCKACQUIRE_NOT_AVAIL; });
}

void release(const LOCKTAG &lock, LOCKMODE mode) {
    pg::guard([&] { LockRelease(&lock, mode, true); });
}

} // namespace

void share_job(std::int64_t job) {
    acquire(tag(job, 0, kJobClass), ShareLock, true, true);
}
void unshare_job(std::int64_t job) {
    release(tag(job, 0, kJobClass), ShareLock);
}
bool shares_job(std::int64_t job) {
    const LOCKTAG lock = tag(job, 0, kJobClass);
    return pg::guard([&] { return pg::lock_held_by_me(&lock, ShareLock); });
}
bool try_end_job(std::int64_t job) {
    return acquire(tag(job, 0, kJobClass), ExclusiveLock, true, false);
}
void release_end_job(std::int64_t job) {
    release(tag(job, 0, kJobClass), ExclusiveLock);
}

bool try_worker_slot(std::int64_t job, int slot) {
    return acquire(tag(job, slot, kWorkerSlotClass), ExclusiveLock, true, false);
}
void release_worker_slot(std::int64_t job, int slot) {
    release(tag(job, slot, kWorkerSlotClass), ExclusiveLock);
}

bool try_claim(std::int64_t job, int ordinal) {
    return acquire(tag(job, ordinal, kPartitionClass), ExclusiveLock, true, false);
}
void release_claim(std::int64_t job, int ordinal) {
    release(tag(job, ordinal, kPartitionClass), ExclusiveLock);
}

bool holds_claim(std::int64_t job, int ordinal) {
    const LOCKTAG lock = tag(job, ordinal, kPartitionClass);
    return pg::guard([&] { return pg::lock_held_by_me(&lock, ExclusiveLock); });
}

// Asks the lock manager itself: pg_locks would need a query.
std::vector<int> claims_of(std::int64_t job) {
    struct Found {
        int count;
        int *ordinals;
    };
    const LOCKTAG wanted = tag(job, 0, kPartitionClass);
    const Found found = pg::guard([&] {
        LockData *locks = GetLockStatusData();
        Found claims{0, static_cast<int *>(palloc(sizeof(int) * static_cast<Size>(locks->nelements + 1)))};
        for (int i = 0; i < locks->nelements; i++) {
            const LOCKTAG &lock = locks->locks[i].locktag;
            if (lock.locktag_type == wanted.locktag_type && lock.locktag_field1 == wanted.locktag_field1 &&
                lock.locktag_field2 == wanted.locktag_field2 &&
                lock.locktag_field4 == wanted.locktag_field4 && locks->locks[i].holdMask != 0)
                claims.ordinals[claims.count++] = static_cast<int>(lock.locktag_field3);
        }
        pfree(locks->locks);
        pfree(locks);
        return claims;
    });
    std::vector<int> ordinals(found.ordinals, found.ordinals + found.count);
    pg::guard([&] { pfree(found.ordinals); });
    return ordinals;
}

void lock_choice(std::int64_t job) {
    acquire(tag(job, 0, kChoiceClass), ExclusiveLock, false, true);
}
void lock_schemas(std::int64_t job) {
    acquire(tag(job, 0, kSchemasClass), ExclusiveLock, false, true);
}

void cancel_workers_at_commit(std::int64_t job, const char *type) {
    pg::cancel_holders_at_commit(tag(job, 0, kJobClass), type);
}

std::vector<int> job_workers(std::int64_t job) {
    const pg::Result result = pg::query(R"SQL(
        SELECT DISTINCT l.pid::bigint
        FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                            WHERE d.datname = pg_catalog.current_database())
          AND l.classid::bigint = $1 & 4294967295 AND l.objid = 0 AND l.objsubid = $2
    )SQL",
                                        {job, static_cast<int>(kJobClass)});
    std::vector<int> pids;
    for (const pg::Row &row : result.rows)
        pids.push_back(static_cast<int>(row.integer(0)));
    return pids;
}

} // namespace partbackfill::locks
