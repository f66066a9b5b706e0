// Turning a row of the source into a row of the table, as INSERT does. To be included after
// server.hpp. C-style: runs inside the server's executor, which jumps out of it.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"
}

namespace partbackfill::load {

// What the conversion of the rows needs. Lives in the memory context in which it was made.
struct RowAssignment {
    Relation table;
    EState *estate;
    ResultRelInfo *result;
    AttrNumber *targets; // the source's i-th column goes to the attribute targets[i]
    int count;
    ProjectionInfo *coercion;       // nullptr when no type differs
    FmgrInfo *outputs;              // of the source's columns, for errors
    const TupleTableSlot *describe; // the row that an error now would be about
    bool describing;
    bool has_generated;
    bool has_constraints;
};

void row_assignment_init(RowAssignment *self, Relation table, const AttrNumber *targets, int count);

// Prepares the conversion of rows of that description.
void row_assignment_start(RowAssignment *self, TupleDesc source);

// Stores in `row`, a slot of the table, what the source's row becomes: values converted by
// assignment casts, generated columns computed, constraints checked. An error of a cast or of a
// generated column shows the source's row.
void row_assign(RowAssignment *self, TupleTableSlot *source, TupleTableSlot *row);

void row_assignment_end(RowAssignment *self);

// Expressions that convert the source's columns; `converts` tells whether some type differs.
List *row_conversions(const RowAssignment *self, TupleDesc source, bool *converts);

} // namespace partbackfill::load
