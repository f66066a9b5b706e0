// Rows of backfill_job, read and locked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/pg/newest_row.hpp"
#include "partbackfill/pg/session_settings.hpp"

namespace partbackfill::job {

class JobTable : ControlTable {
public:
    explicit JobTable(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    // Finds only what this installation started: rows of others, whose OIDs mean nothing
    // here, may have come with a copy of the tables.
    std::optional<Job> find(std::int64_t job) const;
    // Finds the job as the active snapshot sees it, which may be newer than the transaction's.
    std::optional<Job> find_now(std::int64_t job) const;
    // The job's source. A Job has none, since only a build needs it. The job has to exist.
    std::string source(std::int64_t job) const;
    // The job's audits, in their order. A Job has none either.
    std::vector<std::string> audits(std::int64_t job) const;
    // The session settings of the caller of backfill_start; none once the job has ended.
    std::vector<pg::Setting> settings(std::int64_t job) const;
    bool is_of_another_installation(std::int64_t job) const;
    // Whether the current transaction itself inserted or changed the job.
    bool is_of_this_transaction(std::int64_t job) const;
    // Where throttle_settings_if_running() reads. The job has to exist.
    pg::KeyedTable throttle_table(std::int64_t job) const;
    // How many partitions of the job are pending, running or ready, and a worker may take them up;
    // counts up to the limit.
    int claimable_partitions(std::int64_t job, int limit) const;
    bool has_partition(std::int64_t job, core::PartitionState state) const;
    // Jobs that a worker, or the tidying after one, has still to bring to an end; paused ones too.
    std::vector<Job> unfinished() const;
    // The first job that forbids to drop the extension: it is unfinished, or keeps what a retry
    // would swap.
    std::optional<Job> first_in_the_way() const;
    // The first job that keeps old rows, and therefore watches the partitions.
    std::optional<std::int64_t> first_that_keeps_old() const;

    // Locks the row FOR NO KEY UPDATE to the end of the transaction: no other session changes
    // the job's state, claims one of its partitions or queues one again.
    void lock(std::int64_t job) const;
    // Locks the row FOR SHARE to the end of the transaction, so that a pause or cancel comes after
    // what the transaction does, and sees it. False when the job does not run, or its state is
    // about to change.
    bool keep_running(std::int64_t job) const;

private:
    std::optional<Job> find(std::int64_t job, pg::Read read) const;
};

} // namespace partbackfill::job
