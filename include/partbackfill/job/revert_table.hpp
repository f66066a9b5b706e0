// Rows of backfill_control of partitions whose kept tables come back.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::job {

// A partition that was swapped, as the swap left it.
struct SwappedPartition {
    int ordinal = 0;
    std::string name;
    std::string bound;
    core::PartitionState state = core::PartitionState::done; // or reverted
    Oid live = kNoOid;                                       // since the swap
    Oid kept = kNoOid;                                       // kNoOid when no table is kept any more
};

// What was written to a partition and its kept table since the swap.
struct LaterWrites {
    bool noticed = false; // whether each write would have been
    std::string columns;  // catalog::columns_of() the live partition at the swap
    int to_live = 0;      // transactions; more are not told apart from writes::kEnoughMarks
    int to_kept = 0;
};

// A partition that is to be reverted, and how.
struct RevertedPartition : SwappedPartition {
    RevertBy by = RevertBy::exchange;
    bool forced = false; // rows written since the swap are left behind
};

class RevertTable : ClaimedRow {
public:
    explicit RevertTable(const pg::AsExtensionOwner &owner) : ClaimedRow(owner) {}

    // The partitions of the job that were swapped. By the active snapshot, as the next one.
    std::vector<SwappedPartition> swapped(std::int64_t job) const;
    // Given what is to be seen now of the live partition's write capture.
    LaterWrites later_writes(std::int64_t job, int ordinal, const writes::WriteBaseline &now) const;

    // Queues the partitions of a job that runs for it. Raises when another unfinished job has one of them.
    void begin(const Job &job, const std::vector<RevertedPartition> &partitions, bool together) const;
    // Records that the kept table can be exchanged, and of what definitions that is true.
    void adopted(Partition &partition, const std::string &constraint, const std::string &definition_digest,
                 const std::string &shadow_digest) const;
    // Has the rows of the kept table come back by a build.
    void restore(Partition &partition) const;
    // Ends the revert of the partition, which stays as it was.
    void keep(Partition &partition, const pg::ErrorFields &error) const;
    // Ends the reverts of all partitions of the job.
    void keep_all(const Job &job, const pg::ErrorFields *error) const;
    // How the job ends, none of whose partitions is being reverted any more.
    core::JobEvent end_of(const Job &job) const;

    // Of these partitions, the states and errors by the active snapshot: how many are not in the state any
    // more in which they were; and the first error.
    int moved(std::int64_t job, const std::vector<RevertedPartition> &partitions) const;
    std::string first_error(std::int64_t job, const std::vector<RevertedPartition> &partitions,
                            const std::string &since) const;
};

// Ends the revert of a job, all partitions of which stay as they are by now.
void give_up_revert(const pg::AsExtensionOwner &owner, const Job &job, const pg::ErrorFields *error);

} // namespace partbackfill::job
