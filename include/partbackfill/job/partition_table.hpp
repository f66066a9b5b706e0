// Rows of backfill_control, changed by the worker that has the claim.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::job {

// What stays of a partition that has failed: nothing; its shadow and write capture, since a retry can swap
// what was built; or its shadow only, for people to look at.
enum class Keep { nothing, for_retry, to_look_at };

// Each function that changes a partition throws LostClaim when the worker has lost its claim.
// What a swap leaves.
struct SwapFigures {
    Oid live = kNoOid;
    Oid old_table = kNoOid;
    double lock_wait_seconds = 0;
    writes::WriteBaseline captured{}; // of writes to the live partition from then on
    std::string live_columns{};       // catalog::columns_of()
};

class PartitionTable : ClaimedRow {
public:
    explicit PartitionTable(const pg::AsExtensionOwner &owner) : ClaimedRow(owner) {}

    // Partitions, by their ordinals, that other workers may be building: those before `partition`, and
    // of those after it only what has its shadow, so that of two workers one goes first.
    std::map<int, Oid> built_before(const Partition &partition) const;

    // ----- the build
    void record_shadow(Partition &partition, Oid shadow, const std::string &constraint,
                       const std::string &definition_digest, const std::string &shadow_digest) const;
    void forget_shadow(Partition &partition) const;
    // Records that the shadow has rows now, where its build found none.
    void record_rows(Partition &partition, std::int64_t rows) const;
    // Before a swap that settles rows of the shadow, and after one that has not come to that.
    void record_settling(const Partition &partition, bool settling) const;
    void built(Partition &partition, const BuildFigures &figures) const;
    // Records that the shadow has passed the audits, or that it is another one since.
    void record_audited(Partition &partition, bool audited) const;
    // Makes the partition pending again after a build that did not get a lock that it needs; the
    // attempt does not count.
    void defer_build(Partition &partition) const;

    // ----- the swap
    // Records the CHECK on the DEFAULT sibling.
    void record_proof(Partition &partition, Oid proof) const;
    // Locks the row FOR UPDATE before any lock that others can feel is taken: a swap must not wait
    // for a row while it holds tables. Waits while another session has the row. Throws LostClaim
    // when another worker has the partition, or the job does not run.
    void lock_for_swap(const Partition &partition) const;
    void swapped(Partition &partition, const SwapFigures &swap) const;
    // Records for how long the swap held its locks, which announces that the partition is done.
    // Returns what its build cost and gave.
    BuildFigures record_locked_for(const Partition &partition, double seconds) const;
    // Records that the swap did not get its locks; it is tried again no earlier than in `pause`.
    // Returns for how long the partition has been trying.
    std::chrono::duration<double> defer_swap(Partition &partition, double lock_wait_seconds,
                                             Milliseconds pause, const std::string &waiting_on) const;

    // ----- other outcomes
    // Makes the partition pending again, since what was built is out of date; `reason` stands in
    // its error until it is built.
    void rebuild(Partition &partition, const std::string &reason) const;
    void skip(Partition &partition, const std::string &reason) const;
    // `event` is retry or fail. No worker takes the partition up earlier than in `pause`.
    void attempt_failed(Partition &partition, core::PartitionEvent event, const pg::ErrorFields &error,
                        Milliseconds pause, Keep keep) const;
    // Sends a NOTIFY of the partition's state, for the states of which no trigger does.
    void announce(const Partition &partition) const;
};

} // namespace partbackfill::job
