// The shadow of the attach method: a table of the live partition's name and definition, in the job's
// schema backfill_<job>_new, that can take the partition's place.
#pragma once

#include <cstdint>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::shadow {

// Makes the shadow of the attach method, empty, with all of the leaf's definition that the method
// carries, without the proofs on the leaf. Returns the OID. Needs a PinnedSettings scope. ACCESS
// SHARE on the live partition, to the end of the transaction.
Oid create_attach_shadow(std::int64_t job, const catalog::Leaf &leaf, const std::vector<Oid> &proofs);

} // namespace partbackfill::shadow
