// Parallel index build: builds indexes of a table at the same time, each by one process of
// this transaction. On few processors that is faster than all processes building one index
// together, as the server does, which then has to merge their runs.
#pragma once

#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::load {

// Shows the builds of so many indexes of the table in pg_stat_progress_create_index, as
// those of so many partitions, until the command's end is reported: the row does not vanish
// between two builds. C-style.
void start_index_progress(Oid table, int indexes);

// Shows the build of an index that begins after `done` others. C-style.
void show_index_progress(int done, Oid index);

// Builds those of the indexes that can be built in parallel, as REINDEX would, and returns
// the others. The table is a plain heap that no other session has open, with ACCESS
// EXCLUSIVE on it, and is to be analyzed afterwards: ANALYZE records how large the
// indexes are. An active snapshot is needed. Raises what a build raises, foremost
// violations of unique keys.
std::vector<Oid> build_in_parallel(Oid table, const std::vector<Oid> &indexes);

} // namespace partbackfill::load
