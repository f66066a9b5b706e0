#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
}

#include "partbackfill/catalog/column_origin.hpp"

namespace partbackfill::catalog {

namespace {

const char *origin_of(const Query *query, Node *expression);

const Query *with_query(const Query *query, const RangeTblEntry *entry) {
    if (entry->ctelevelsup > 0 || entry->self_reference)
        return nullptr;
    for (int i = 0; i < list_length(query->cteList); i++) {
        const auto *cte = static_cast<CommonTableExpr *>(list_nth(query->cteList, i));
        if (strcmp(cte->ctename, entry->ctename) == 0)
            return IsA(cte->ctequery, Query) ? reinterpret_cast<Query *>(cte->ctequery) : nullptr;
    }
    return nullptr;
}

const char *origin_of_var(const Query *query, const Var *var) {
    if (var->varlevelsup > 0 || var->varattno <= 0)
        return nullptr;
    const RangeTblEntry *entry = rt_fetch(var->varno, query->rtable);
    switch (entry->rtekind) {
    case RTE_RELATION:
        return get_attname(entry->relid, var->varattno, true);
    case RTE_SUBQUERY:
        return column_origin(entry->subquery, var->varattno);
    case RTE_JOIN:
        return origin_of(query, static_cast<Node *>(list_nth(entry->joinaliasvars, var->varattno - 1)));
    case RTE_CTE: {
        const Query *with = with_query(query, entry);
        return with != nullptr ? column_origin(with, var->varattno) : nullptr;
    }
    default:
        return nullptr;
    }
}

const char *origin_of(const Query *query, Node *expression) {
    while (expression != nullptr && (IsA(expression, RelabelType) || IsA(expression, CollateExpr)))
        expression = IsA(expression, RelabelType)
                         ? reinterpret_cast<Node *>(reinterpret_cast<RelabelType *>(expression)->arg)
                         : reinterpret_cast<Node *>(reinterpret_cast<CollateExpr *>(expression)->arg);
    return expression != nullptr && IsA(expression, Var)
               ? origin_of_var(query, reinterpret_cast<Var *>(expression))
               : nullptr;
}

// The origin that all parts of a UNION ALL have.
const char *origin_of_parts(const Query *query, Node *part, int column) {
    if (IsA(part, RangeTblRef)) {
        const RangeTblEntry *entry = rt_fetch(reinterpret_cast<RangeTblRef *>(part)->rtindex, query->rtable);
        return column_origin(entry->subquery, column);
    }
    const auto *set = reinterpret_cast<SetOperationStmt *>(part);
    const char *left = origin_of_parts(query, set->larg, column);
    const char *right = origin_of_parts(query, set->rarg, column);
    return left != nullptr && right != nullptr && strcmp(left, right) == 0 ? left : nullptr;
}

} // namespace

const char *column_origin(const Query *query, int column) {
    if (query->setOperations != nullptr)
        return origin_of_parts(query, query->setOperations, column);
    int number = 0;
    for (int i = 0; i < list_length(query->targetList); i++) {
        const auto *entry = static_cast<TargetEntry *>(list_nth(query->targetList, i));
        if (!entry->resjunk && ++number == column)
            return origin_of(query, reinterpret_cast<Node *>(entry->expr));
    }
    return nullptr;
}

} // namespace partbackfill::catalog
