#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
}

#include "partbackfill/pg/parallel.hpp"

namespace partbackfill::pg {

char parallel_hazard(List *expressions) {
    auto *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->jointree = makeFromExpr(NIL, nullptr);
    for (int i = 0; i < list_length(expressions); i++)
        query->targetList =
            lappend(query->targetList, makeTargetEntry(static_cast<Expr *>(list_nth(expressions, i)),
                                                       static_cast<AttrNumber>(i + 1), nullptr, false));
    return max_parallel_hazard(query);
}

} // namespace partbackfill::pg
