#include "partbackfill/pg/server.hpp"

extern "C" {
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
}

#include "partbackfill/catalog/null_bounds.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/tree_walkers.hpp"

namespace partbackfill::catalog {

namespace {

// Which of $1 and $2 are NULL.
struct Nulls {
    bool start;
    bool end;
};

bool is_null_parameter(Node *node, const Nulls *nulls) {
    if (!IsA(node, Param))
        return false;
    const auto *param = reinterpret_cast<Param *>(node);
    return param->paramkind == PARAM_EXTERN &&
           ((param->paramid == 1 && nulls->start) || (param->paramid == 2 && nulls->end));
}

bool uses_parameter(Node *node, void *nulls) {
    if (node == nullptr)
        return false;
    return is_null_parameter(node, static_cast<Nulls *>(nulls)) ||
           expression_tree_walker(node, pg::as_walker(uses_parameter), nulls);
}

Node *with_nulls(Node *node, void *nulls) {
    if (node == nullptr)
        return nullptr;
    if (is_null_parameter(node, static_cast<Nulls *>(nulls))) {
        const auto *param = reinterpret_cast<Param *>(node);
        return reinterpret_cast<Node *>(
            makeNullConst(param->paramtype, param->paramtypmod, param->paramcollid));
    }
    return expression_tree_mutator(node, pg::as_mutator(with_nulls), nulls);
}

// Simplifies as the planner does, which drops the branches that IS NULL, COALESCE and the like
// take care of, and makes NULL of strict functions of NULL.
Node *simplified(Node *node, Nulls *nulls) {
    return eval_const_expressions(nullptr, with_nulls(node, nulls));
}

bool is_null(Node *node) {
    return IsA(node, Const) && reinterpret_cast<Const *>(node)->constisnull;
}

// Whether a branch of AND or OR is NULL: the rows that the branch would let pass are lost.
bool has_null_branch(Node *condition) {
    if (is_null(condition))
        return true;
    if (!IsA(condition, BoolExpr))
        return false;
    List *args = reinterpret_cast<BoolExpr *>(condition)->args;
    for (int i = 0; i < list_length(args); i++)
        if (has_null_branch(static_cast<Node *>(list_nth(args, i))))
            return true;
    return false;
}

// Whether the condition is $1 IS NOT NULL: the query itself says what happens without a bound.
bool asks_for_bound(Node *condition, Nulls *nulls) {
    return IsA(condition, NullTest) && reinterpret_cast<NullTest *>(condition)->nulltesttype == IS_NOT_NULL &&
           is_null_parameter(reinterpret_cast<Node *>(reinterpret_cast<NullTest *>(condition)->arg), nulls);
}

bool keeps_rows_out(Node *condition, Nulls *nulls) {
    if (condition == nullptr || !uses_parameter(condition, nulls) || asks_for_bound(condition, nulls))
        return false;
    if (is_andclause(condition)) {
        List *args = reinterpret_cast<BoolExpr *>(condition)->args;
        bool keeps = false;
        for (int i = 0; i < list_length(args); i++) {
            auto *arg = static_cast<Node *>(list_nth(args, i));
            if (asks_for_bound(arg, nulls))
                return false;
            keeps = keeps || keeps_rows_out(arg, nulls);
        }
        return keeps;
    }
    Node *rest = simplified(condition, nulls);
    if (IsA(rest, Const))
        return is_null(rest) || !DatumGetBool(reinterpret_cast<Const *>(rest)->constvalue);
    return has_null_branch(rest);
}

// Whether the call gives no rows: a strict function that returns a set is not called when an
// argument is NULL.
bool gives_no_rows(Node *call, Nulls *nulls) {
    const auto *function = reinterpret_cast<FuncExpr *>(call);
    if (!function->funcretset || !func_strict(function->funcid))
        return false;
    for (int i = 0; i < list_length(function->args); i++) {
        auto *argument = static_cast<Node *>(list_nth(function->args, i));
        if (uses_parameter(argument, nulls) && is_null(simplified(argument, nulls)))
            return true;
    }
    return false;
}

bool loses_rows(Node *node, void *context) {
    if (node == nullptr)
        return false;
    auto *nulls = static_cast<Nulls *>(context);
    bool loses = false;
    switch (nodeTag(node)) {
    case T_Query: {
        auto *query = reinterpret_cast<Query *>(node);
        return keeps_rows_out(query->havingQual, nulls) ||
               query_tree_walker(query, pg::as_walker(loses_rows), context, 0);
    }
    case T_FromExpr:
        loses = keeps_rows_out(reinterpret_cast<FromExpr *>(node)->quals, nulls);
        break;
    case T_JoinExpr:
        loses = keeps_rows_out(reinterpret_cast<JoinExpr *>(node)->quals, nulls);
        break;
    case T_Aggref:
        loses = keeps_rows_out(reinterpret_cast<Node *>(reinterpret_cast<Aggref *>(node)->aggfilter), nulls);
        break;
    case T_WindowFunc:
        loses =
            keeps_rows_out(reinterpret_cast<Node *>(reinterpret_cast<WindowFunc *>(node)->aggfilter), nulls);
        break;
    case T_FuncExpr:
        loses = gives_no_rows(node, nulls);
        break;
    default:
        break;
    }
    return loses || expression_tree_walker(node, pg::as_walker(loses_rows), context);
}

bool query_loses_rows(const char *sql, Oid key_type, Nulls nulls) {
    Oid types[2] = {key_type, key_type};
    SPI_connect();
    SPIPlanPtr plan = SPI_prepare(sql, 2, types);
    if (plan == nullptr)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    auto *source = static_cast<CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
    bool loses = false;
    for (int i = 0; i < list_length(source->query_list); i++)
        loses = loses || loses_rows(static_cast<Node *>(list_nth(source->query_list, i)), &nulls);
    SPI_finish();
    return loses;
}

} // namespace

bool needs_bounds(const std::string &query, Oid key_type, bool no_start, bool no_end) {
    const pg::CallersPath path;
    return pg::guard([&] { return query_loses_rows(query.c_str(), key_type, Nulls{no_start, no_end}); });
}

} // namespace partbackfill::catalog
