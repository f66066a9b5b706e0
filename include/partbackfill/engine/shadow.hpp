// The shadow: a table beside the live partition, of the same name and the same
// definition, in the job's schema backfill_<job>_new.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Name of the CHECK that equals the partition's constraint, so that ATTACH has
// nothing to scan. It lives from create to the end of the swap.
inline constexpr const char *kBoundsConstraint = "partbackfill_bounds";

std::string new_schema(std::int64_t job); // not quoted
std::string old_schema(std::int64_t job);

// Makes the job's two schemas unless they are there, as the extension's owner: the
// job's owner needs no CREATE on the database. An error when a schema of that name
// belongs to another role, who could drop or replace what is built in it. Made when a
// job starts or goes on, they keep their names from those who may create schemas, too.
void make_schemas(std::int64_t job);

// False when another role has a schema of that name, or is about to.
bool try_make_schemas(std::int64_t job);

// Makes them if they were dropped. The present role and the owner of the leaf may create
// in them. No lock that others can feel.
void ensure_schemas(std::int64_t job, const Leaf &leaf);

// Drops the job's schemas that are empty.
void drop_empty_schemas(std::int64_t job);

// Makes the shadow, empty, with everything of the leaf's definition that the
// attach method carries, but the proofs that are on it; its OID. Needs a PinnedSettings scope.
// Lock on the live partition: ACCESS SHARE, to the end of the transaction.
Oid create_shadow(std::int64_t job, const Leaf &leaf, const std::vector<Oid> &proofs);

// Whether the OID is a table in a schema of the job, and no partition.
bool is_own_table(std::int64_t job, Oid table);

// The owner has moved a shadow out of the job's schema, or made it a partition: it
// is his, but the statistics objects that it left in the schema are in the way.
void drop_stray_statistics(std::int64_t job, Oid table);

// Raises when the current role may not drop that table of ours. What was never live is the
// job's own and may always go; what has the rows that a partition had is for those only
// who could drop it by hand.
void check_may_drop_own(std::int64_t job, Oid table);

// Drops a table of ours, if the OID still is one in a schema of the job. The
// table is out of everybody's sight but ours; ACCESS EXCLUSIVE on it.
// False when there was none.
bool drop_own_table(std::int64_t job, Oid table);

} // namespace partbackfill::engine
