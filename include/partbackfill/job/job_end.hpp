// How a job ends in backfill_job.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// Prefix of a job's error when a table of the job could not be dropped.
inline constexpr const char *kCouldNotTidyUp = "could not tidy up: ";

class JobEnd : ControlTable {
public:
    explicit JobEnd(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    // Moves the job to the state after `event`, tidied. Changes nothing when another session has
    // changed the job's state since `job` was read.
    void end(const Job &job, core::JobEvent event) const;
    // Moves a job whose partitions are built to the state in which it waits for backfill_publish().
    void rest_ready(const Job &job) const;
    // Notes that a paused, failed or canceled job has left nothing behind.
    void mark_tidied(const Job &job) const;
    // Notes that a job that has ended has something to be tidied up again.
    void mark_untidied(std::int64_t job) const;
    // Removes all rows of the job.
    void forget(std::int64_t job) const;
    void set_error(std::int64_t job, const std::string &error) const;
    // Replaces an error that begins with kCouldNotTidyUp by that of the job's partitions, once the
    // job's schemas are gone.
    void clear_tidy_error(std::int64_t job) const;

private:
    void record_figures(std::int64_t job) const;
};

} // namespace partbackfill::job
