// The shadow of the storage method: a table whose rows lie on disk exactly as
// the live partition's do, so that the two can exchange their files.
#pragma once

#include <cstdint>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Makes it, empty, in the job's schema: the same columns with the same numbers
// (dropped ones too), the same access method, tablespaces and storage options, a
// TOAST table when the live partition has one, one index for each of its valid
// indexes, and what a load has to check and compute. Grants, triggers and the like
// stay with the live partition and are not copied.
//
// pg_class.relrewrite of each index names the live index that it is made for.
// Needs a PinnedSettings scope. ACCESS SHARE on the live partition, to the end of
// the transaction.
Oid create_storage_shadow(std::int64_t job, const Leaf &leaf, const std::vector<Oid> &proofs);

} // namespace partbackfill::engine
