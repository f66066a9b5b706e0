// A job and its partitions as the control tables hold them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partbackfill/core/state.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::job {

using Milliseconds = std::chrono::milliseconds;

// What happens when a partition is written to while it is rebuilt.
enum class OnWrite {
    rebuild, // it is noticed, and the partition built again
    block,   // writers wait from the build's snapshot to the swap
    ignore,  // the writes are lost with the old partition
};

// What the caller of backfill_start chose. Intervals stay in the server's text
// form until a worker reads them.
struct Options {
    bool newest_first = false;
    int workers = 1;
    std::string delay;
    double nice_ratio = 0;
    std::optional<std::string> max_wal_rate;
    std::optional<std::string> max_replica_lag;
    std::optional<std::string> throttle_query;
    std::optional<std::string> min_free_disk;
    std::string on_write;
    int max_attempts = 3;
    std::string on_error;
    std::string swap;
    bool keep_old = true;
    std::string lock_timeout;
    std::string swap_patience;
    bool skip_triggers = false;
    bool allow_shrink = false;
};

struct Job {
    std::int64_t id = 0;
    Oid target = kNoOid;
    Oid source_oid = kNoOid;
    Oid key_type = kNoOid; // kNoOid: $1 and $2 are not to be had
    std::set<std::string> key_columns;
    Oid owner = kNoOid;
    core::JobState state = core::JobState::running;
    bool tidied = false; // it rests, and nothing that is of no use is left of its work
    int workers = 1;
    Milliseconds delay{0};
    int max_attempts = 3;
    OnWrite on_write = OnWrite::rebuild;
    bool stop_on_error = false;
    std::string swap; // name of the method
    bool keep_old = true;
    Milliseconds lock_timeout{0};
    Milliseconds swap_patience{0};
    bool skip_triggers = false; // BEFORE ROW triggers need not fire for the new rows
    bool allow_shrink = false;  // a partition may be swapped that has lost most of its rows
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
    std::int64_t claim = 0; // the token of this worker
    int attempts = 0;
    int rebuilds = 0;
    int swap_attempts = 0;
    std::optional<std::string> constraint;
    std::string fingerprint; // of the live partition's definition when the shadow was made
    Oid shadow = kNoOid;
    Oid proof = kNoOid;                      // the CHECK on a DEFAULT sibling
    Oid old = kNoOid;                        // the table that has the old rows, once it is swapped
    std::int64_t rows = 0;                   // of the shadow, once it is built
    std::optional<std::int64_t> rows_before; // of the live partition, when the shadow has far fewer
    bool built = false;                      // the shadow is complete
    bool held = false;                       // a worker took it up and did not give it back
    int orphaned = 0;                        // how often that worker had died and it was ready
};

// What a build cost and gave.
struct BuildFigures {
    std::int64_t rows = 0;
    std::optional<std::int64_t> rows_before; // of the live partition, when there are far fewer now
    std::int64_t wal_bytes = 0;
    std::chrono::duration<double> seconds{0};
    std::chrono::duration<double> throttled{0}; // of these seconds
    std::chrono::duration<double> held{0};      // of those, waiting for a signal to go away
};

} // namespace partbackfill::job
