#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/heap.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_constraint.h"
#include "nodes/makefuncs.h"
#include "utils/rel.h"
}

#include "partbackfill/pg/definitions.hpp"

namespace partbackfill::pg {

AttrMap *column_map(TupleDesc from, TupleDesc to) {
#if PG_VERSION_NUM >= 160000
    return build_attrmap_by_name(from, to, false);
#else
    return build_attrmap_by_name(from, to);
#endif
}

void mark_enforced([[maybe_unused]] Constraint *constraint) {
#if PG_VERSION_NUM >= 180000
    constraint->is_enforced = true;
#endif
}

bool holds_for_all_rows(const ConstrCheck &check) {
#if PG_VERSION_NUM >= 180000
    return check.ccvalid && check.ccenforced;
#else
    return check.ccvalid;
#endif
}

#if PG_VERSION_NUM >= 180000
namespace {

bool not_null_is_valid(Relation table, AttrNumber column, char **name) {
    HeapTuple tuple = findNotNullConstraintAttnum(RelationGetRelid(table), column);
    if (!HeapTupleIsValid(tuple))
        return false;
    const auto *constraint = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple));
    *name = pstrdup(NameStr(constraint->conname));
    return constraint->convalidated;
}

} // namespace
#endif

List *not_null_constraints([[maybe_unused]] Relation table) {
    List *constraints = NIL;
#if PG_VERSION_NUM >= 180000
    for (int i = 0; i < RelationGetDescr(table)->natts; i++) {
        const Form_pg_attribute column = TupleDescAttr(RelationGetDescr(table), i);
        char *name = nullptr;
        if (!column->attnotnull || column->attisdropped || !not_null_is_valid(table, column->attnum, &name))
            continue;
        auto *constraint = makeNode(Constraint);
        constraint->contype = CONSTR_NOTNULL;
        constraint->conname = name;
        constraint->location = -1;
        constraint->keys = list_make1(makeString(pstrdup(NameStr(column->attname))));
        constraint->initially_valid = true;
        constraint->skip_validation = true;
        mark_enforced(constraint);
        constraints = lappend(constraints, constraint);
    }
#endif
    return constraints;
}

void leave_out_invalid_not_nulls([[maybe_unused]] Relation table, [[maybe_unused]] TupleDesc copy) {
#if PG_VERSION_NUM >= 180000
    for (int i = 0; i < copy->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(copy, i);
        char *name = nullptr;
        if (!column->attnotnull || column->attisdropped || not_null_is_valid(table, column->attnum, &name))
            continue;
        column->attnotnull = false;
        populate_compact_attribute(copy, i);
    }
#endif
#if PG_VERSION_NUM >= 190000
    TupleDescFinalize(copy); // it knows which of the columns are never null
#endif
}

void store_default(Relation relation, AttrNumber column, Node *expression) {
    const bool is_internal = true;
#if PG_VERSION_NUM >= 180000
    StoreAttrDefault(relation, column, expression, is_internal);
#else
    const bool add_column_mode = false;
    StoreAttrDefault(relation, column, expression, is_internal, add_column_mode);
#endif
}

} // namespace partbackfill::pg
