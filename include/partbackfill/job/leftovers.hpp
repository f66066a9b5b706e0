// Tables and constraints that the partitions of a job have left behind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// Shadows and captured partitions that no swap can use any more: a job that is paused or failed
// keeps those of partitions that are built, and shadows of which an audit has failed, to be looked at.
// Proofs all go: an inactive job may stay so for long,
// and a CHECK on a DEFAULT would keep rows out once the partition it is about is dropped.
struct Leftovers {
    std::vector<Oid> shadows;
    std::vector<Oid> partitions;
    std::vector<Oid> proofs;
    std::vector<Oid> kept;         // partitions and shadows
    std::vector<Oid> watched_live; // whose old rows are kept: captured, and their keys logged, for a revert
    std::vector<Oid> watched_old;  // those old rows
};

class LeftoverRows : ControlTable {
public:
    explicit LeftoverRows(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}

    Leftovers find(const Job &job) const;
    // Clears the job's leftovers from the control tables, and the marks of writes to them.
    void forget(const Job &job) const;
    // Shows what the tidying waits for, in the row of the partition that `table` belongs to.
    void tidying_waits(std::int64_t job, Oid table, const std::string &waiting_on) const;
    // The CHECKs on a DEFAULT partition that are proofs of jobs, whatever state those are in.
    std::vector<Oid> proofs_on(Oid partition) const;
    // The tables with old rows that keep_old kept.
    std::vector<Oid> old_tables(std::int64_t job) const;
    // Whether a shadow is kept that may still be swapped.
    bool keeps_shadow(std::int64_t job) const;
    void forget_old(std::int64_t job, Oid old_table) const;
};

} // namespace partbackfill::job
