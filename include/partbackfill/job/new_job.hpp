// A new job, as backfill_start inserts it into the control tables.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/pg/session_settings.hpp"

namespace partbackfill::job {

struct NewJob {
    std::int64_t id = 0; // of NewJobRows::next_number()
    Oid target = kNoOid;
    std::string target_name;
    std::string source;
    Oid source_oid = kNoOid;
    bool reads_target = false;
    Oid key_type = kNoOid;
    std::vector<std::string> key_columns;
    Oid owner = kNoOid;
    std::int64_t shard = 0; // of Citus, that the target is; 0 when it is none
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    Options options;
    std::vector<pg::Setting> settings;
};

struct NewPartition {
    int ordinal = 0;
    Oid live = kNoOid;
    std::string name;
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    std::string bound;
    std::int64_t rows_estimate = 0;
};

class NewJobRows : ControlTable {
public:
    explicit NewJobRows(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    // The job that has a partition: it is unfinished, or has failed for the partition and keeps
    // what it built.
    struct Claimant {
        std::int64_t job = 0;
        bool failed = false; // for the partition
        core::JobState state = core::JobState::running;
    };
    std::optional<Claimant> claimant_of(Oid partition) const;

    // The unfinished job of that owner with that label, by the active snapshot.
    struct Labelled {
        std::int64_t job = 0;
        Oid target = kNoOid;
        std::string target_name;
        std::string source;
        core::JobState state = core::JobState::running;
    };
    std::optional<Labelled> unfinished_with_label(Oid owner, const std::string &label) const;

    // A number whose schemas do not exist: a restored dump may have brought some.
    std::int64_t next_number() const;
    void insert(const NewJob &job) const;
    // A unique violation when another unfinished job has the partition.
    void insert_partition(std::int64_t job, const NewPartition &partition) const;
};

} // namespace partbackfill::job
