#include "partbackfill/job/own_job.hpp"

#include <fmt/format.h>

#include "partbackfill/job/control_tables.hpp"

namespace partbackfill::job {

Job find_own_job(std::int64_t id) {
    std::optional<Job> found;
    {
        ControlTables control;
        found = control.find_job(id);
    }
    if (!found)
        pg::raise(pg::sqlcode::kUndefinedObject, fmt::format("backfill job {} does not exist", id), "",
                  "backfill_status lists your jobs.");
    if (!pg::may_act_as(found->owner))
        pg::raise(pg::sqlcode::kInsufficientPrivilege, fmt::format("permission denied for backfill job {}", id),
                  fmt::format("It belongs to role \"{}\".", pg::role_name(found->owner)));
    return *found;
}

bool at_rest(const Job &job) { return core::rests(job.state) && job.tidied; }

void raise_busy(const std::string &partition, std::int64_t job) {
    pg::raise(pg::sqlcode::kObjectInUse, fmt::format("partition \"{}\" already belongs to an unfinished job", partition),
              job != 0 ? fmt::format("It is job {}.", job) : "Another session has just started a job on it.",
              job != 0 ? fmt::format("Wait for it with backfill_wait({0}), or end it with backfill_cancel({0}).", job) : "");
}

} // namespace partbackfill::job
