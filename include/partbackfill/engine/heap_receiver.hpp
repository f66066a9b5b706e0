// The DestReceiver that writes a query's rows into a fresh table. To be included
// after server.hpp. Written in C's way: the server calls it, and jumps out of it.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/execnodes.h"
#include "tcop/dest.h"
#include "utils/relcache.h"
}

namespace partbackfill::engine {

// Makes a receiver for rows whose i-th column goes to the table's attribute
// targets[i]. The table must have got its present file in the present
// subtransaction (checked): rows of a heap are written frozen, those of another access
// method as COPY has it write them. Lives in the current memory context; everything it
// allocates goes with heap_receiver_finish or that context.
DestReceiver *heap_receiver_create(Relation table, const AttrNumber *targets, int count);

// Has the function called every few rows. It may raise errors, and what it allocates
// is freed when it is over.
void heap_receiver_paced_by(DestReceiver *receiver, void (*function)(void *argument), void *argument);

// Writes what is still buffered and returns how many rows were received.
uint64 heap_receiver_finish(DestReceiver *receiver);

// Whether some expression that runs for each row of that source must not run
// while a parallel plan does.
bool heap_receiver_needs_serial_plan(DestReceiver *receiver, TupleDesc source);

} // namespace partbackfill::engine
