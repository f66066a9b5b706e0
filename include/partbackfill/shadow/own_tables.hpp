// Tables of a job's own: those in its schemas that are no partitions.
#pragma once

#include <cstdint>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::shadow {

// Whether the OID is that of a table in a schema of the job that is no partition: a table of the
// job's own.
bool is_own_table(std::int64_t job, Oid table);

// Drops the statistics objects, in the job's schemas, of a table that its owner has moved out of
// them or made a partition: the table stays, and the objects are in the way of the schemas.
void drop_stray_statistics(std::int64_t job, Oid table);

// Raises when the current role may not drop the table of the job's own. A shadow was never live,
// and may always be dropped; a table with the old rows of a partition may be dropped by roles only
// that could drop it by hand.
void check_may_drop_own(std::int64_t job, Oid table);

// Drops a table of the job's own; false when the OID is none. ACCESS EXCLUSIVE on the table, which
// other sessions hardly use.
bool drop_own_table(std::int64_t job, Oid table);

} // namespace partbackfill::shadow
