#include "partbackfill/process/current_job.hpp"

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/rights.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::process {

std::optional<job::Job> read_job(std::int64_t id) {
    pg::Transaction transaction;
    std::optional<job::Job> job;
    if (pg::extension_usable()) {
        const pg::AsExtensionOwner owner;
        job = job::JobTable(owner).find(id);
    }
    transaction.commit();
    return job;
}

bool has_work(std::int64_t id) {
    pg::Transaction transaction;
    bool found = false;
    {
        const pg::AsExtensionOwner owner;
        found = job::JobTable(owner).claimable_partitions(id, 1) > 0;
    }
    transaction.commit();
    return found;
}

bool was_stopped(std::int64_t id) {
    pg::forget_cancel();
    const auto now = read_job(id);
    return !now || now->state != core::JobState::running;
}

bool is_own(const job::Job &job) {
    return job.owner == pg::current_role();
}

} // namespace partbackfill::process
