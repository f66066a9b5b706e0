// Builds indexes of a table side by side, each by one process of this transaction:
// on few processors more than if all of them build one index together, which the
// server does, and then puts their runs into one.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Progress of the builds of so many indexes of the table, in the server's view of CREATE
// INDEX as that of so many partitions. C-style. It lasts until the command's end is
// reported, so that it does not vanish between two of them.
void start_index_progress(Oid table, int indexes);
// Before an index is built, after `done` others.
void show_index_progress(int done, Oid index);

// Builds those of the indexes that can be built so, as REINDEX would, and returns
// the others. The table is a plain heap that nobody else has open, with ACCESS
// EXCLUSIVE on it, and is to be analyzed afterwards: that tells how large the
// indexes are. An active snapshot is needed. Raises what a build raises, foremost
// violations of unique keys.
std::vector<Oid> build_side_by_side(Oid table, const std::vector<Oid> &indexes);

} // namespace partbackfill::engine
