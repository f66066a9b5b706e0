// A job and its partitions as the control tables have them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partbackfill/core/state.hpp"
#include "partbackfill/job/options.hpp"
#include "partbackfill/pg/error.hpp"

namespace partbackfill::job {

// A job, but for its source, its settings and its ThrottleSettings, which have their own readers.
struct Job : StepOptions {
    std::int64_t id = 0;
    Oid target = kNoOid;
    Oid source_oid = kNoOid;
    Oid key_type = kNoOid; // kNoOid: $1 and $2 are not to be had
    std::set<std::string> key_columns;
    Oid owner = kNoOid;
    std::int64_t shard = 0; // of Citus, that the target is; 0 when it is none
    core::JobState state = core::JobState::running;
    bool tidied = false; // the job is inactive, and its leftovers are dropped
    // While kept tables of the job come back: the state in which it was before.
    std::optional<core::JobState> reverts_from;
};

// How the rows of a kept table come back.
enum class RevertBy {
    exchange, // the table itself takes the place of the live one
    build,    // a shadow is filled from it, and rows written since are put into that
};

struct Partition {
    std::int64_t job = 0;
    int ordinal = 0;
    Oid live = kNoOid;
    std::string name;
    std::string bound;
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    core::PartitionState state = core::PartitionState::pending;
    std::int64_t claim = 0; // token of this worker
    int attempts = 0;
    int rebuilds = 0;
    int swap_attempts = 0;
    std::optional<std::string> constraint;
    std::string definition_digest; // of the live partition, when the shadow was made
    Oid shadow = kNoOid;
    Oid proof = kNoOid;                      // the CHECK on a DEFAULT sibling
    Oid old = kNoOid;                        // the table that has the old rows after the swap
    std::int64_t rows = 0;                   // of the shadow, after the build
    std::optional<std::int64_t> rows_before; // of the live partition, when the shadow has far fewer
    bool built = false;                      // the shadow is complete
    bool audited = false;                    // the shadow, as it is now, has passed the audits
    bool claimed = false;                    // a worker claimed the partition and did not give it back
    bool settling = false;                   // a swap that settles rows of the shadow has begun
    int orphaned = 0;                        // how often a worker died that had claimed it when it was ready
    // While the kept table comes back: the state before, the table, the way, and whether rows that were
    // written since the swap are left behind.
    std::optional<core::PartitionState> reverts_from;
    Oid kept = kNoOid;
    RevertBy revert_by = RevertBy::exchange;
    bool revert_forced = false;

    // Whether its last swap, or the exchange back, is made.
    bool is_swapped() const noexcept {
        return state == core::PartitionState::done || state == core::PartitionState::reverted;
    }
    bool reverts() const noexcept { return reverts_from.has_value(); }
    bool comes_back() const noexcept { return reverts() && revert_by == RevertBy::exchange; }
    bool is_restored() const noexcept { return reverts() && revert_by == RevertBy::build; }
};

// Whether the partition is brought up to date by the keys of the rows that were written to it.
inline bool catches_up(const Job &job, const Partition &partition) noexcept {
    return job.on_write == OnWrite::catch_up && !partition.comes_back() && !partition.revert_forced;
}

// What a build cost and produced.
struct BuildFigures {
    std::int64_t rows = 0;
    std::optional<std::int64_t> rows_before; // of the live partition, when there are far fewer now
    std::int64_t wal_bytes = 0;
    std::chrono::duration<double> seconds{0};
    std::chrono::duration<double> throttled{0}; // of these seconds
    std::chrono::duration<double> stalled{0};   // of those, while a throttle condition held
};

} // namespace partbackfill::job
