#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

#include "partbackfill/catalog/query_walk.hpp"
#include "partbackfill/pg/tree_walkers.hpp"

namespace partbackfill::catalog {

namespace {

void note(QueryTraits *traits, const char *kind, const char *name, Oid schema) {
    if (traits->temporary == nullptr && name != nullptr && isAnyTempNamespace(schema))
        traits->temporary = psprintf("%s \"%s\"", kind, name);
}

bool note_function(Oid function, void *context) {
    auto *traits = static_cast<QueryTraits *>(context);
    note(traits, "function", get_func_name(function), get_func_namespace(function));
    if (function >= FirstNormalObjectId)
        traits->functions = list_append_unique_oid(traits->functions, function);
    return false;
}

// An operator may be temporary although the function of the operator is not.
void note_operator(QueryTraits *traits, Oid oid) {
    HeapTuple tuple = OidIsValid(oid) ? SearchSysCache1(OPEROID, ObjectIdGetDatum(oid)) : nullptr;
    if (!HeapTupleIsValid(tuple))
        return;
    const auto *form = reinterpret_cast<Form_pg_operator>(GETSTRUCT(tuple));
    note(traits, "operator", NameStr(form->oprname), form->oprnamespace);
    ReleaseSysCache(tuple);
}

Oid operator_of(const Node *node) {
    switch (nodeTag(node)) {
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
        return reinterpret_cast<const OpExpr *>(node)->opno;
    case T_ScalarArrayOpExpr:
        return reinterpret_cast<const ScalarArrayOpExpr *>(node)->opno;
    default:
        return InvalidOid;
    }
}

// An array type is in the schema of its element type.
void note_type(QueryTraits *traits, Oid type) {
    HeapTuple tuple = OidIsValid(type) ? SearchSysCache1(TYPEOID, ObjectIdGetDatum(type)) : nullptr;
    if (!HeapTupleIsValid(tuple))
        return;
    const auto *form = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    note(traits, "type", NameStr(form->typname), form->typnamespace);
    ReleaseSysCache(tuple);
}

// Whether the node can have a type that the query names; other nodes have the types of their
// arguments.
bool may_name_type(const Node *node) {
    switch (nodeTag(node)) {
    case T_Const:
    case T_Param:
    case T_FuncExpr:
    case T_OpExpr:
    case T_RelabelType:
    case T_CoerceViaIO:
    case T_ArrayCoerceExpr:
    case T_ConvertRowtypeExpr:
    case T_CoerceToDomain:
    case T_ArrayExpr:
    case T_RowExpr:
        return true;
    default:
        return false;
    }
}

bool walk(Node *node, void *context) {
    auto *traits = static_cast<QueryTraits *>(context);
    if (node == nullptr)
        return false;
    if (IsA(node, Query)) {
        const auto *query = reinterpret_cast<Query *>(node);
        if (query->rowMarks != NIL && query->hasForUpdate)
            traits->locks_rows = true;
        return query_tree_walker(reinterpret_cast<Query *>(node), pg::as_walker(walk), context, 0);
    }
    if (IsA(node, Param)) {
        const auto *param = reinterpret_cast<Param *>(node);
        if (param->paramkind == PARAM_EXTERN && param->paramid >= 1 && param->paramid <= 2)
            traits->uses_parameter[param->paramid - 1] = true;
    }
    note_operator(traits, operator_of(node));
    check_functions_in_node(node, note_function, context);
    if (may_name_type(node))
        note_type(traits, exprType(node));
    return expression_tree_walker(node, pg::as_walker(walk), context);
}

const char *kind_of(Oid relation) {
    return get_rel_relkind(relation) == RELKIND_VIEW ? "view" : "table";
}

} // namespace

QueryTraits query_traits(List *queries, List *relations) {
    QueryTraits traits{};
    for (int i = 0; i < list_length(relations); i++) {
        const Oid relation = list_nth_oid(relations, i);
        note(&traits, kind_of(relation), get_rel_name(relation), get_rel_namespace(relation));
    }
    for (int i = 0; i < list_length(queries); i++)
        walk(static_cast<Node *>(list_nth(queries, i)), &traits);
    return traits;
}

} // namespace partbackfill::catalog
