// Rows that every snapshot sees alike, however old it is.
//
// Rows that are inserted into a table, and deleted from it, before other sessions know of the table
// would be seen by some snapshots and not by others once they do. Settling makes such rows what the
// rows of a load are from birth: frozen, or gone.
#pragma once

#include <cstdint>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// Blocks of the heap that the visibility map does not call all-frozen. ACCESS SHARE.
std::vector<std::uint32_t> unfrozen_blocks(Oid table);

// Freezes each row in the blocks that is there for this transaction, and removes each other one.
// The caller knows that no other session reads the table or will read it unless this transaction
// commits, and that the transaction does nothing after it that may fail: rows that are settled stay
// so when it is rolled back. Blocks are logged as generic records. ACCESS SHARE is taken on the
// table, which no other process may write to.
void settle_rows(Oid table, const std::vector<std::uint32_t> &blocks);

// Removes the rows of that range of blocks that a committed transaction has deleted, although older
// snapshots still see them: of a table that other sessions only add to. What is scanned again is short then,
// also while an old snapshot keeps vacuum from it.
void remove_deleted_rows(Oid table, std::uint32_t from, std::uint32_t to);

} // namespace partbackfill::pg
