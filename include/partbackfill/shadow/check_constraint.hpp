// CHECK constraints from expression trees. A text would be parsed into another tree for some
// partition keys. To be included after server.hpp; errors are reported by longjmp: call under
// guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "utils/rel.h"
}

namespace partbackfill::shadow {

// An enforced CHECK of the expression (a node tree as text), whose rows are not checked when
// it is added; `is_valid` says whether it counts for rows that are there.
Constraint *cooked_check(const char *name, const char *expression, bool is_valid);

// The expression for cooked_check of conditions that all must be met.
const char *expression_of(List *conditions);

// Adds the constraints to the table. The caller holds ACCESS EXCLUSIVE on it.
void add_constraints(Relation table, List *constraints);

} // namespace partbackfill::shadow
