// What live workers do, for the views.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// The columns of backfill_live, and the owner and target of the job.
struct ActivityRow {
    Oid owner = kNoOid;
    Oid target = kNoOid;
    std::vector<std::optional<std::string>> columns;
};

struct IdleJob {
    std::int64_t job = 0;
    Oid owner = kNoOid;
    Oid target = kNoOid;
};

class ActivityView : ControlTable {
public:
    explicit ActivityView(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    // A row for each partition that a live worker of any job has claimed.
    std::vector<ActivityRow> activity() const;
    // Unfinished jobs without a worker, for which none will come by itself.
    std::vector<IdleJob> jobs_without_worker() const;

private:
    // Whether the last sign of a worker is older than a restart of the server or a promotion.
    bool was_left_alone(std::int64_t job) const;
};

} // namespace partbackfill::job
