// Triggers of a table of its own, copied to another.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Makes on `shadow` each trigger that `live` has itself (not those that it has
// from its parent, which ATTACH makes), disabled or enabled as they are.
// SHARE ROW EXCLUSIVE on the shadow.
void copy_triggers(Oid live, Oid shadow);

} // namespace partbackfill::engine
