// A job's state, options and partitions, changed by the roles that may control it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/job/option_table.hpp"

namespace partbackfill::job {

// Locks the rows of the job and then of its partitions, to the end of the transaction. An error
// when another session has changed the job's state since `job` was read.
class JobControl : ControlTable {
public:
    explicit JobControl(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    void cancel(const Job &job) const;
    // `live` are the ordinals that a living worker has claimed: their attempts do not count.
    void pause(const Job &job, const std::vector<int> &live) const;
    void resume(const Job &job) const;
    // Begins to swap the partitions of a ready job.
    void publish(const Job &job) const;
    // Has a job that has ended run again, to revert partitions: all of them at once, or each by itself.
    void revert(const Job &job, bool together) const;
    // Ends that before its time, with the state after `event`.
    void end_revert(const Job &job, core::JobEvent event, const pg::ErrorFields *error) const;
    // Queues the failed partitions again, with all their attempts; returns how many.
    int retry(const Job &job) const;
    void alter(std::int64_t job, const Alteration &alteration) const;
    // Notes that workers were registered, which need a moment to be seen.
    void note_start(const Job &job) const;
    // Fails the job with all that is left of it: no worker can do it.
    void give_up(const Job &job, const pg::ErrorFields &error) const;

private:
    void restart(const Job &job) const;
    // Moves the job; `more` sets further columns, whose parameters are $4 and on.
    void move(const Job &job, core::JobEvent event, const std::string &more,
              const pg::Params &more_params = {}) const;
};

} // namespace partbackfill::job
