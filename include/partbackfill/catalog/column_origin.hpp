// Where a column of a query's result comes from. To be included after server.hpp; errors are reported
// by longjmp: call under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace partbackfill::catalog {

// The name of the relation's column that the query (views expanded) gives as its column of that
// number, as it is, also through subqueries, joins, WITH queries and parts of UNION ALL of one name;
// nullptr when it is computed.
const char *column_origin(const Query *query, int column);

} // namespace partbackfill::catalog
