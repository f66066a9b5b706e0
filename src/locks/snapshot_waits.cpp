#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/xact.h"
#include "storage/lock.h"
}

#include <fmt/format.h>

#include "partbackfill/locks/lock_classes.hpp"
#include "partbackfill/locks/snapshot_waits.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::locks {

namespace {

LOCKTAG wait_tag(std::int64_t job) {
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(job), 0, kWaitClass);
    return tag;
}

} // namespace

WaitsForJob::WaitsForJob(std::int64_t job) : job_(job), is_known_(!IsolationUsesXactSnapshot()) {
    if (is_known_)
        pg::guard([&] {
            const LOCKTAG tag = wait_tag(job_);
            LockAcquire(&tag, ShareLock, true, false);
        });
}

WaitsForJob::~WaitsForJob() {
    if (!is_known_)
        return;
    pg::guard_noexcept(
        [](void *job) {
            const LOCKTAG tag = wait_tag(*static_cast<std::int64_t *>(job));
            LockRelease(&tag, ShareLock, true);
        },
        &job_);
}

// A build gives the table new files, so that xmin of its row in pg_class is that of the build, or later.
// VACUUM reads by no snapshot.
std::string older_snapshots(Oid table) {
    const pg::AsExtensionOwner owner; // not all may see them
    if (pg::query(R"SQL(
            SELECT FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam
            WHERE c.oid = $1 AND am.amhandler <> 'heap_tableam_handler'::regproc
        )SQL",
                  {table})
            .empty())
        return "";
    pg::execute("SELECT pg_stat_clear_snapshot()");
    const pg::Row row = pg::query_row(R"SQL(
        SELECT COALESCE(string_agg(other.name, ', ' ORDER BY other.since, other.name), '')
        FROM (SELECT a.pid::text AS name, a.xact_start AS since, a.backend_xmin AS oldest
              FROM pg_stat_activity AS a
              WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
                AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS v WHERE v.pid = a.pid)
                AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = $2)
              UNION ALL
              SELECT 'standby ' || quote_ident(r.application_name), NULL, r.backend_xmin FROM pg_stat_replication AS r
              UNION ALL
              SELECT 'replication slot ' || quote_ident(s.slot_name), NULL, s.xmin FROM pg_replication_slots AS s
              WHERE s.slot_type = 'physical') AS other
        JOIN pg_class AS c ON c.oid = $1
        WHERE age(other.oldest) >= age(c.xmin)
    )SQL",
                                      {table, static_cast<int>(kWaitClass)});
    return row.text(0).empty() ? "" : fmt::format("{} (held by {})", kSnapshot, row.text(0));
}

} // namespace partbackfill::locks
