// How many rows a table has.
#pragma once

#include <cstdint>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// The planner's estimate, from the size of the table now and what is known of its
// rows. ACCESS SHARE on it, to the end of the transaction.
std::int64_t estimated_rows(Oid table);

// A rebuild with fewer than one row in so many of the live partition's shrinks it.
inline constexpr std::int64_t kShrinking = 2;

// Whether the estimate leaves it open that a live partition would shrink to so many rows.
// The caller has a lock on it.
bool may_shrink(Oid live, std::int64_t rebuilt);

struct RowCount {
    std::int64_t rows = 0;
    bool over = false;       // the end was reached, or the limit passed
    std::uint32_t block = 0; // where the next piece begins
    Oid file = kNoOid;       // in which that block is
};

// Counts on in the next 16 MB of the table, as the active snapshot sees them, until there
// are more rows than `limit`. No privilege is asked for. The caller has a lock on it, and
// may give that back between two pieces: a table that got another file meanwhile is counted
// from its start, one that is gone has no more rows.
void count_piece(Oid table, std::int64_t limit, RowCount &count);

} // namespace partbackfill::engine
