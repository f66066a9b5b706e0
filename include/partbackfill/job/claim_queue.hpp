// Which partition a worker takes up, and how it gives one back.
//
// A claim is a session advisory lock (locks::try_claim) and a token in the partition's row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/claimed_row.hpp"

namespace partbackfill::job {

class ClaimQueue : ClaimedRow {
public:
    explicit ClaimQueue(const pg::AsExtensionOwner &owner) : ClaimedRow(owner) {}

    // Ordinal of the next partition to take up and not in `passed`: ready ones first, then in order.
    // One that another worker has claimed is found too: its session lock tells.
    std::optional<int> next(const Job &job, const std::vector<int> &passed) const;
    // As next(), when that finds none: a built one that its worker has left before it was held.
    std::optional<int> next_unheld(const Job &job, const std::vector<int> &passed) const;
    // The partition as it is now, its row locked FOR UPDATE; nothing when it is not to be taken
    // up any more, or another session has locked its row. The caller has its session lock.
    std::optional<Partition> lock(const Job &job, int ordinal) const;
    // At most `limit` partitions, in order, that are built and whose swap did not get its locks.
    std::vector<Partition> waiting_for_swap(const Job &job, int limit) const;
    // One of waiting_for_swap(), its row locked as by lock(), whatever pause it was given.
    std::optional<Partition> lock_waiting(const Job &job, int ordinal) const;

    // Takes the partition up under a new token.
    void claim(Partition &partition) const;
    // Counts that a worker died which had claimed the partition when it was ready.
    void count_orphan(Partition &partition) const;
    // Notes that a worker died in the build of the partition, and may have died of it.
    void suspect(const Partition &partition) const;
    // Counts an attempt before anything of the user's runs.
    void begin_attempt(Partition &partition) const;
    // Gives the partition back as it is; no worker takes it up earlier than in `pause`.
    void defer(const Partition &partition, Milliseconds pause) const;
    // Gives a partition of a paused job back: a ready one waits for its swap, a running one is
    // pending again, and its attempt does not count. Nothing when it was given back already.
    void give_back_if_paused(Partition &partition) const;

private:
    // Partitions that may be taken up and meet the condition, whose parameters are $5 and on; all,
    // or the first.
    std::vector<Partition> candidates(const Job &job, const std::string &condition,
                                      const pg::Params &more_params) const;
    std::optional<Partition> candidate(const Job &job, const std::string &condition,
                                       const pg::Params &more_params) const;
};

} // namespace partbackfill::job
