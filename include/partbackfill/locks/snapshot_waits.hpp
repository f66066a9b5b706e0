// Snapshots by which the rows of a table cannot be seen yet.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::locks {

inline constexpr const char *kSnapshot = "snapshot"; // how the text begins

// Who may have a snapshot that does not see the rows of a table, for people: "snapshot (held by 4711, standby
// "replica")"; empty when all do. Rows of a heap are loaded as frozen, and are seen by all; those of another
// access method only by snapshots that were taken after the commit of the table's build. A standby without
// hot_standby_feedback does not tell. A session with a WaitsForJob is left out. Needs a PinnedSettings scope.
// No lock.
std::string older_snapshots(Oid table);

// Within its life other sessions know that this one only waits for a job, and reads nothing by the snapshot
// of its statement: the job must not wait for it. A session whose next statement reads by that snapshot,
// above READ COMMITTED, is not known so. A session lock, shared, for which no session waits.
class WaitsForJob {
public:
    explicit WaitsForJob(std::int64_t job);
    ~WaitsForJob();
    WaitsForJob(const WaitsForJob &) = delete;
    WaitsForJob &operator=(const WaitsForJob &) = delete;

private:
    std::int64_t job_;
    bool is_known_;
};

} // namespace partbackfill::locks
