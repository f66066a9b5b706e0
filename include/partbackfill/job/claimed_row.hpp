// A partition's row of backfill_control, changed by the worker that has the claim.
#pragma once

#include <stdexcept>

#include "partbackfill/job/control_table.hpp"
#include "partbackfill/job/job.hpp"

namespace partbackfill::job {

// A cancel, a pause or another worker has the partition now.
class LostClaim : public std::runtime_error {
public:
    LostClaim() : std::runtime_error("the partition was taken from this worker") {}
};

// Base of the classes that change a claimed partition. Each UPDATE is fenced by the claim's
// token: a worker that lost its claim changes nothing and gets LostClaim.
class ClaimedRow : protected ControlTable {
protected:
    using ControlTable::ControlTable;

    // Moves the partition to the state after `event`; `more` sets further columns, whose parameters
    // are $6 and on.
    void move(Partition &partition, core::PartitionEvent event, const std::string &more,
              const pg::Params &more_params = {}) const;
    // Sets columns and leaves the state; the parameters are $4 and on.
    void change(const Partition &partition, const std::string &assignments,
                const pg::Params &more_params = {}) const;
};

} // namespace partbackfill::job
