// Columns and constraints of a table, for a copy of it. To be included after server.hpp;
// the functions report errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/attmap.h"
#include "access/tupdesc.h"
#include "nodes/parsenodes.h"
#include "utils/relcache.h"
}

namespace partbackfill::pg {

// For each column of `to` the number of the column of that name in `from`.
AttrMap *column_map(TupleDesc from, TupleDesc to);

// Marks the CHECK constraint as one that is enforced (18 has others too).
void mark_enforced(Constraint *constraint);

// Whether every row of the table meets the CHECK.
bool holds_for_all_rows(const ConstrCheck &check);

// NOT NULL constraints (Constraint *) for a copy of the table that no row breaks;
// before 18 the columns' own mark is all there is.
List *not_null_constraints(Relation table);

// Takes NOT NULL from those columns of a copy of the table's descriptor in which rows may
// break it (18).
void leave_out_invalid_not_nulls(Relation table, TupleDesc copy);

// Stores the expression of a generated column.
void store_default(Relation relation, AttrNumber column, Node *expression);

} // namespace partbackfill::pg
