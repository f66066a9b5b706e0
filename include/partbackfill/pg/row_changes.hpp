// Changes of single rows of a table below its SQL: by index, and without its row triggers. To be
// included after server.hpp; the functions report errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
}

namespace partbackfill::pg {

// A scan of the table by the index.
IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys);

// Enters the row in the table's indexes, which are opened in `result`; checks unique keys and
// exclusion constraints. Returns indexes whose deferrable check is still to be made.
List *insert_index_entries(ResultRelInfo *result, TupleTableSlot *row, EState *estate);

// Leaves only those triggers in `result` by which the server checks constraints of inserted rows:
// valid foreign keys and deferrable unique keys. Rows that a build has loaded are not held to a key that is
// not valid either.
void keep_constraint_triggers(ResultRelInfo *result);

} // namespace partbackfill::pg
