// Queries that lose rows without a bound: $1 or $2 is NULL for a partition that is unbounded
// there, and a comparison with NULL lets no row pass.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// Whether a part of the query, however deep, loses rows when $1 (no_start) or $2 (no_end) is
// NULL: a condition (WHERE, ON, HAVING, FILTER) or a branch of one cannot become true any more,
// or a strict function that returns a set is not called. A part that takes care of NULL, by IS
// NULL, COALESCE and the like, loses none. The query itself is examined, since a plan does not
// show branches that the planner has left out. Parses under the caller's search_path.
bool needs_bounds(const std::string &query, Oid key_type, bool no_start, bool no_end);

} // namespace partbackfill::catalog
