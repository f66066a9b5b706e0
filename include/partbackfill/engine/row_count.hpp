// How many rows a table has.
#pragma once

#include <cstdint>
#include <optional>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// The planner's estimate, from the size of the table now and what is known of its
// rows. ACCESS SHARE on it, to the end of the transaction.
std::int64_t estimated_rows(Oid table);

// Rows that the active snapshot sees, by a scan of the table. No privilege is asked
// for. The caller has a lock on the table.
std::int64_t count_rows(Oid table);

// The rows of a live partition, if its rebuild has none of them or fewer than half as
// many; nullopt otherwise. Counts only where the estimate leaves it open: where the
// rebuild has no row, or fewer than the estimate makes likely. The caller has a lock
// on the partition, and the build's snapshot is active.
std::optional<std::int64_t> rows_before_shrinking(Oid live, std::int64_t rebuilt);

} // namespace partbackfill::engine
