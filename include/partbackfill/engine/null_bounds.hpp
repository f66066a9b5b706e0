// Queries that cannot do without a bound: $1 or $2 is NULL for a partition that has
// none, and a comparison with NULL lets no row pass.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Whether a part of the query, however deep, loses rows when those of $1 and $2 are
// NULL: a condition of it (WHERE, ON, HAVING, FILTER), or a branch of one, cannot become
// true any more, or a strict function that returns a set is not called. Not where the
// query takes care of NULL, by IS NULL, COALESCE and the like. Told from the query
// itself, since a plan does not show the branches that the planner has left out.
bool needs_bounds(const std::string &query, Oid key_type, bool no_start, bool no_end);

} // namespace partbackfill::engine
