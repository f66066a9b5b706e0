// The exchange of two relations' files in the catalogs.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::swap {

struct Pair {
    Oid live;
    Oid shadow;
};

// Exchanges the files of each pair, the table first, then the indexes. The caller holds ACCESS
// EXCLUSIVE on all of them and on both TOAST tables with their indexes, which is checked: a
// relation that another session reads or writes would lose rows.
//
// Both relations of a pair keep their OIDs, and with them all objects that refer to them.
void exchange_files(const Pair &table, const std::vector<Pair> &indexes);

} // namespace partbackfill::swap
