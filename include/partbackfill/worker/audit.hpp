// The step that asks the job's audits of a partition that is built: any row keeps it from its swap.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/worker/catch_up.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// One object goes with a partition from its build to its swap. The partition's row says whether its shadow
// has passed: a partition whose swap is deferred is not asked about again unless its shadow has changed.
class Audits {
public:
    Audits(const job::Job &job, job::Partition &partition) : job_(job), partition_(partition) {}

    // Asks each audit in a transaction of its own. ACCESS SHARE on what it reads, while it runs; locks are
    // waited for no longer than lock_timeout. An audit that gives a row because of rows that were written
    // to the live partition meanwhile proves nothing: rows_written, or the answer is left to run_last(),
    // where there is a CatchUp.
    StepResult run(CatchUp *catch_up);

    // Asks all of them within the caller's transaction, which has built the shadow and keeps writers out.
    StepResult run_within();

    // Asks all of them again within the transaction of a swap, while writers are locked out: of the rows
    // that were refreshed last. keys_left when that did not end in time; the transaction must then be
    // rolled back, as after any result that is not done.
    StepResult run_last(CatchUp &catch_up, CatchUp::Clock::time_point deadline);
    // Whether run() has left the answer to run_last().
    bool are_undecided() const noexcept { return undecided_; }

private:
    void read();
    void show(std::size_t i) const;
    StepResult ask(std::size_t i) const;
    StepResult ask_all(bool shown) const;
    StepResult ask_each() const;
    StepResult failed(std::size_t number, const std::string &row) const;

    const job::Job &job_;
    job::Partition &partition_;
    std::optional<std::vector<std::string>> audits_;
    bool undecided_ = false;
};

} // namespace partbackfill::worker
