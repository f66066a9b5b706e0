// The DestReceiver that writes a query's rows into a fresh table. To be included
// after server.hpp. C-style: the server calls the receiver, and jumps out of it.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/execnodes.h"
#include "tcop/dest.h"
#include "utils/relcache.h"
}

namespace partbackfill::load {

// Makes a receiver for rows whose i-th column goes to the table's attribute
// targets[i]. The table must have got its present file in the present
// subtransaction (checked): rows of a heap are written frozen, rows of another access
// method as COPY writes them. The receiver lives in the current memory context; what it
// allocates goes with heap_receiver_finish or that context.
DestReceiver *heap_receiver_create(Relation table, const AttrNumber *targets, int count);

// Has the function called after so many rows at most, and after each row that takes long. The
// function may raise errors; what it allocates is freed when it returns.
void heap_receiver_set_delay_point(DestReceiver *receiver, void (*function)(void *argument), void *argument,
                                   int rows);

// Writes the rows that are still buffered, and returns how many were received.
uint64 heap_receiver_finish(DestReceiver *receiver);

// Whether some expression that runs for each row of that source must not run
// while a parallel plan does.
bool heap_receiver_needs_serial_plan(DestReceiver *receiver, TupleDesc source);

} // namespace partbackfill::load
