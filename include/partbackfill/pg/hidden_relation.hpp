// Relations that an extension hides from queries.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// Whether pg_class has a row of the relation that queries of pg_class do not show: a planner hook may change
// what they find. No lock but on pg_class. Needs a PinnedSettings scope.
bool is_hidden(Oid relation);

} // namespace partbackfill::pg
