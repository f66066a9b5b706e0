// What a partition's rows are loaded from: the job's source, for this partition.
#pragma once

#include "partbackfill/job/job.hpp"
#include "partbackfill/load/key_refresh.hpp"
#include "partbackfill/load/loader.hpp"

namespace partbackfill::worker {

// What the build of the partition runs, checked. A lock on what the source reads is waited for no
// longer than other locks. While writers wait for the build, the session that has the lock could come
// to wait for the partition, and be canceled by the server's deadlock detector; and a worker that
// stands in a queue obeys no setting.
load::LoadRequest bounded_load_request(const job::Job &job, const job::Partition &partition,
                                       const catalog::Leaf &leaf);

// What catching up runs to refresh rows by their key; its index and log are left to the caller.
load::RefreshRequest bounded_refresh_request(const job::Job &job, const job::Partition &partition,
                                             const catalog::Leaf &leaf, const catalog::RowKey &key);

} // namespace partbackfill::worker
