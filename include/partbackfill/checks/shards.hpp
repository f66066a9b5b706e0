// What Citus has to do with the target of a job.
#pragma once

#include <cstdint>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::checks {

// The shard that the target is, or catalog::kNoShard. Raises when the target is a distributed table, whose
// rows are elsewhere, and when a job on this shard would not be right. Adds to the target's key columns the
// one by which rows belong to the shard: the source has to give its exact type, too. Needs a PinnedSettings
// scope.
std::int64_t check_shard(catalog::Target &target);

} // namespace partbackfill::checks
