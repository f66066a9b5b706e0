// The number of rows of a table.
#pragma once

#include <cstdint>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// The planner's estimate, from the size of the table now and its statistics. ACCESS SHARE on the
// table, to the end of the transaction.
std::int64_t estimated_rows(Oid table);

// A rebuild shrinks a partition when the live partition has more than this many rows for each
// rebuilt row.
inline constexpr std::int64_t kShrinking = 2;

// Whether the estimate leaves it open that the live partition would shrink to `rebuilt` rows. The
// caller has a lock on it.
bool may_shrink(Oid live, std::int64_t rebuilt);

struct RowCount {
    std::int64_t rows = 0;
    bool over = false;       // the end was reached, or the limit passed
    std::uint32_t block = 0; // at which the next piece begins
    Oid file = kNoOid;       // that has the block
};

// Counts on in the next 16 MB of the table, as the active snapshot sees them, until there are
// more rows than `limit`. Asks for no privilege. The caller has a lock on the table, and may
// give it back between two pieces: a table that has got another file meanwhile is counted from
// its start, and a table that is gone has no more rows.
void count_piece(Oid table, std::int64_t limit, RowCount &count);

} // namespace partbackfill::catalog
