// What is noted of changes to a partition and its shadow while it is rebuilt: the marks in
// backfill_write, and in backfill_control what a build saw.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::job {

class WriteTable : ClaimedRow {
public:
    explicit WriteTable(const pg::AsExtensionOwner &owner) : ClaimedRow(owner) {}

    // Records what the build saw, within the build's transaction.
    void record_write_baseline(const Partition &partition, const writes::WriteBaseline &seen) const;
    // Whether something was written that the build did not see, given what is to be seen
    // now. Under a lock that keeps writers out, the answer stays true.
    bool lacks_writes(const Partition &partition, const writes::WriteBaseline &now) const;
    // Records the digest that the shadow is expected to have.
    void record_shadow_digest(const Partition &partition, const std::string &shadow_digest) const;
    // Whether the shadow, whose digest is `now`, has the recorded one, and no transaction wrote to
    // it since.
    bool shadow_unchanged(const Partition &partition, const std::string &now) const;
    // Deletes the marks of writes from before the swap that was made; all when no table is kept.
    void forget_writes(const Partition &partition, bool keeps_old) const;
};

} // namespace partbackfill::job
