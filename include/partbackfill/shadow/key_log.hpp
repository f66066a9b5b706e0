// The key log of a partition: a table beside its shadow to which the write capture adds the key of
// each row that is written, with the writer's transaction.
//
// The log belongs to the extension's owner. It is marked as being rewritten, by the OID of the
// partition: logical decoding passes over it, and the trigger knows by it whose log it is.
#pragma once

#include <cstdint>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::shadow {

// Each of the functions needs a PinnedSettings scope.

// The log of the partition, when there is one that takes keys of these columns and types. No lock.
std::optional<writes::KeyLog> find_key_log(std::int64_t job, Oid partition, const catalog::RowKey &key);

// Makes the log. The schemas of the job are there, and no log of the partition is. The owner of the
// partition may read it, as a dump has to.
writes::KeyLog create_key_log(std::int64_t job, const catalog::Leaf &leaf, const catalog::RowKey &key);

// Makes the log of `from`, which has one, that of `to`. The caller holds ACCESS EXCLUSIVE on the log.
void pass_key_log_on(std::int64_t job, Oid from, Oid to);

// Gives the log new files. The caller holds ACCESS EXCLUSIVE on it.
void empty_key_log(Oid log);

// The table that is the partition's log, whatever keys it takes; kNoOid: none. No lock.
Oid key_log_of(std::int64_t job, Oid partition);

// Drops the log of the partition, and views that a role has made on it. The caller holds ACCESS
// EXCLUSIVE on it: a dump may be reading it.
void drop_key_log(std::int64_t job, Oid partition);

// Partitions that have a log of the job.
std::vector<Oid> logged_tables(std::int64_t job);

} // namespace partbackfill::shadow
