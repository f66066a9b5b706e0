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
    core::JobState state = core::JobState::running;
    bool tidied = false; // the job is inactive, and its leftovers are dropped
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
};

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
