// Relations of which a query combines rows. To be included after server.hpp; errors are reported by
// longjmp: call under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace partbackfill::catalog {

// OIDs of the relations whose rows the queries (of Query *; views expanded) do not give one by one: a
// part of a query, however deep, that reads the relation has an aggregate, a window, GROUP BY,
// DISTINCT, LIMIT or UNION and the like, or joins it, be it by a subquery in an expression. What
// functions read is not known.
List *combined_relations(List *queries);

} // namespace partbackfill::catalog
