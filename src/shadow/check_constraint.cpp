#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/heap.h"
#include "nodes/makefuncs.h"
}

#include "partbackfill/pg/definitions.hpp"
#include "partbackfill/shadow/check_constraint.hpp"

namespace partbackfill::shadow {

Constraint *cooked_check(const char *name, const char *expression, bool is_valid) {
    auto *constraint = makeNode(Constraint);
    constraint->contype = CONSTR_CHECK;
    constraint->conname = pstrdup(name);
    constraint->location = -1;
    constraint->cooked_expr = pstrdup(expression);
    constraint->initially_valid = is_valid;
    constraint->skip_validation = true;
    pg::mark_enforced(constraint);
    return constraint;
}

const char *expression_of(List *conditions) {
    return nodeToString(make_ands_explicit(conditions));
}

void add_constraints(Relation table, List *constraints) {
    const bool allow_merge = false;
    const bool is_local = true;
    const bool is_internal = false;
    AddRelationNewConstraints(table, NIL, constraints, allow_merge, is_local, is_internal, nullptr);
    CommandCounterIncrement();
}

} // namespace partbackfill::shadow
