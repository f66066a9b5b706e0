#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
}

#include "partbackfill/catalog/combined_rows.hpp"
#include "partbackfill/pg/tree_walkers.hpp"

namespace partbackfill::catalog {

namespace {

// The WITH queries of all parts. One is known by its name: two of one name are taken for each other.
bool collect_ctes(Node *node, void *context) {
    if (node == nullptr)
        return false;
    auto **ctes = static_cast<List **>(context);
    if (!IsA(node, Query))
        return expression_tree_walker(node, pg::as_walker(collect_ctes), context);
    auto *query = reinterpret_cast<Query *>(node);
    *ctes = list_concat(*ctes, query->cteList);
    return query_tree_walker(query, pg::as_walker(collect_ctes), context, 0);
}

// Relations that a part of a query reads, also by WITH queries outside of the part.
struct Reads {
    List *ctes;
    List *followed; // of ctes
    List *relations;
};

bool collect_reads(Node *node, void *context);

void follow_cte(const char *name, Reads *reads) {
    for (int i = 0; i < list_length(reads->ctes); i++) {
        auto *cte = static_cast<CommonTableExpr *>(list_nth(reads->ctes, i));
        if (strcmp(cte->ctename, name) != 0 || list_member_ptr(reads->followed, cte))
            continue;
        reads->followed = lappend(reads->followed, cte);
        collect_reads(cte->ctequery, reads);
    }
}

void collect_reads_of_entry(const RangeTblEntry *entry, Reads *reads) {
    if (entry->rtekind == RTE_RELATION)
        reads->relations = list_append_unique_oid(reads->relations, entry->relid);
    else if (entry->rtekind == RTE_CTE)
        follow_cte(entry->ctename, reads);
}

bool collect_reads(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (IsA(node, RangeTblEntry)) {
        collect_reads_of_entry(reinterpret_cast<RangeTblEntry *>(node), static_cast<Reads *>(context));
        return false; // the walker of the query goes on into it
    }
    if (IsA(node, Query))
        return query_tree_walker(reinterpret_cast<Query *>(node), pg::as_walker(collect_reads), context,
                                 QTW_EXAMINE_RTES_BEFORE);
    return expression_tree_walker(node, pg::as_walker(collect_reads), context);
}

List *relations_of(Node *part, List *ctes) {
    Reads reads{ctes, NIL, NIL};
    collect_reads(part, &reads);
    return reads.relations;
}

List *relations_of_entry(RangeTblEntry *entry, List *ctes) {
    Reads reads{ctes, NIL, NIL};
    collect_reads_of_entry(entry, &reads);
    if (entry->rtekind == RTE_SUBQUERY)
        collect_reads(reinterpret_cast<Node *>(entry->subquery), &reads);
    return reads.relations;
}

// The parts of one query that it joins: what stands in FROM, and subqueries in expressions.
struct Joined {
    const Query *query;
    List *ctes;
    int readers; // that read a relation
    List *relations;
};

void add_joined(List *relations, Joined *joined) {
    if (relations == NIL)
        return;
    joined->readers++;
    joined->relations = list_concat_unique_oid(joined->relations, relations);
}

bool collect_joined(Node *node, void *context) {
    if (node == nullptr || IsA(node, Query))
        return false;
    auto *joined = static_cast<Joined *>(context);
    if (IsA(node, RangeTblRef))
        add_joined(relations_of_entry(
                       rt_fetch(reinterpret_cast<RangeTblRef *>(node)->rtindex, joined->query->rtable),
                       joined->ctes),
                   joined);
    if (IsA(node, SubLink))
        add_joined(relations_of(reinterpret_cast<SubLink *>(node)->subselect, joined->ctes), joined);
    return expression_tree_walker(node, pg::as_walker(collect_joined), context);
}

// Whether SELECT * FROM a UNION ALL SELECT * FROM b and nothing else, which gives rows as they are.
bool only_appends(Node *operation) {
    if (!IsA(operation, SetOperationStmt))
        return true;
    const auto *set = reinterpret_cast<SetOperationStmt *>(operation);
    return set->op == SETOP_UNION && set->all && only_appends(set->larg) && only_appends(set->rarg);
}

bool combines_all(const Query *query) {
    return query->hasAggs || query->hasWindowFuncs || query->groupClause != NIL ||
           query->groupingSets != NIL || query->havingQual != nullptr || query->distinctClause != NIL ||
           query->limitCount != nullptr || query->limitOffset != nullptr ||
           (query->setOperations != nullptr && !only_appends(query->setOperations));
}

struct Combined {
    List *ctes;
    List *relations;
};

void add_combined(Query *query, Combined *combined) {
    if (combines_all(query)) {
        combined->relations = list_concat_unique_oid(
            combined->relations, relations_of(reinterpret_cast<Node *>(query), combined->ctes));
        return;
    }
    if (query->setOperations != nullptr)
        return;
    Joined joined{query, combined->ctes, 0, NIL};
    query_tree_walker(query, pg::as_walker(collect_joined), &joined,
                      QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
    if (joined.readers > 1)
        combined->relations = list_concat_unique_oid(combined->relations, joined.relations);
}

bool collect_combined(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (!IsA(node, Query))
        return expression_tree_walker(node, pg::as_walker(collect_combined), context);
    auto *query = reinterpret_cast<Query *>(node);
    add_combined(query, static_cast<Combined *>(context));
    return query_tree_walker(query, pg::as_walker(collect_combined), context, 0);
}

} // namespace

List *combined_relations(List *queries) {
    Combined combined{NIL, NIL};
    for (int i = 0; i < list_length(queries); i++)
        collect_ctes(static_cast<Node *>(list_nth(queries, i)), &combined.ctes);
    for (int i = 0; i < list_length(queries); i++)
        collect_combined(static_cast<Node *>(list_nth(queries, i)), &combined);
    return combined.relations;
}

} // namespace partbackfill::catalog
