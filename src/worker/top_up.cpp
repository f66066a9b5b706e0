#include "partbackfill/worker/top_up.hpp"

#include <algorithm>

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/registration.hpp"

namespace partbackfill::worker {

void TopUp::start_lacking(const job::Job &job) {
    if (Clock::now() < next_)
        return;
    pg::Transaction transaction;
    const auto alive = static_cast<int>(locks::job_workers(job.id).size()) + 1;
    int wanted = 0;
    if (alive < job.workers) {
        const pg::AsExtensionOwner owner;
        wanted = job::JobTable(owner).claimable_partitions(job.id, job.workers);
    }
    const bool lacking = alive < wanted;
    if (lacking && process::register_at_once(job, 1, alive) > 0)
        pause_ = std::min(pause_ * 2, kLongest);
    transaction.commit();
    if (!lacking)
        pause_ = kShortest;
    next_ = Clock::now() + pause_;
}

} // namespace partbackfill::worker
