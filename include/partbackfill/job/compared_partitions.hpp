// Partitions of a job of which both the old and the new rows are there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/job/control_table.hpp"

namespace partbackfill::job {

// The tables are kNoOid unless both are there: of a partition that is ready the live table and the shadow, of
// one that is done the table that keep_old kept and the one that took its place.
struct ComparedPartition {
    int ordinal = 0;
    std::string name;
    std::string state;
    Oid old_table = kNoOid;
    Oid new_table = kNoOid;

    bool has_both() const noexcept { return old_table != kNoOid && new_table != kNoOid; }
    bool operator==(const ComparedPartition &) const = default;
};

// Read as the active snapshot sees the rows, which may be newer than the transaction's.
class ComparedPartitions : ControlTable {
public:
    explicit ComparedPartitions(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    // Partitions of which both tables are there, in the order of the job.
    std::vector<ComparedPartition> all(std::int64_t job) const;
    std::optional<ComparedPartition> find(std::int64_t job, int ordinal) const;
    // The partition to which the table belongs, be it the live one, the shadow or the kept one.
    std::optional<ComparedPartition> find_by_table(std::int64_t job, Oid table) const;

private:
    std::vector<ComparedPartition> select(std::int64_t job, const std::string &condition,
                                          const pg::Param &value) const;
};

} // namespace partbackfill::job
