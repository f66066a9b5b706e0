// Rows of backfill_control of a job whose partitions are swapped together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/claimed_row.hpp"

namespace partbackfill::job {

class PublicationTable : ClaimedRow {
public:
    explicit PublicationTable(const pg::AsExtensionOwner &owner) : ClaimedRow(owner) {}

    // Whether nothing is left to do for the job but to swap its partitions, and that may begin now.
    bool is_due(const Job &job) const;
    // Gives a built partition back: it waits until all of the job are built.
    void hold(const Partition &partition) const;
    // Takes up all built partitions under one token, in the order in which they are to be swapped: a
    // DEFAULT partition after its siblings. `orphaned` is counted for those whose worker has died.
    std::vector<Partition> claim_all(const Job &job) const;
    // Locks their rows FOR UPDATE, as PartitionTable::lock_for_swap() does. Throws LostClaim when one is
    // not as it was claimed, or the job does not run.
    void lock_for_swap(const std::vector<Partition> &partitions) const;
    // How many partitions the job has swapped, by the active snapshot.
    int published(std::int64_t job) const;
    std::optional<std::string> error_of(std::int64_t job) const; // by the active snapshot
    // A table of the job on which this session has a lock.
    std::optional<std::string> table_locked_here(const Job &job) const;
    // Gives back those that are still built and claimed under the token.
    void give_back(std::int64_t job, std::int64_t claim) const;
};

} // namespace partbackfill::job
