// The exchange of two relations' files in the catalogs.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

struct Pair {
    Oid live;
    Oid shadow;
};

// Each pair exchanges what lies on disk: the table first, then its indexes. The
// caller holds ACCESS EXCLUSIVE on all of them and on both TOAST tables with
// their indexes, which is checked: a relation that somebody else reads or writes
// would lose rows.
//
// Both relations of a pair keep their OIDs, and so whatever refers to them.
void exchange_storage(const Pair &table, const std::vector<Pair> &indexes);

} // namespace partbackfill::engine
