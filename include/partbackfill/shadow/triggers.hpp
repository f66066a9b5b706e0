// Copying triggers from a table to another.
#pragma once

#include "partbackfill/pg/error.hpp"

namespace partbackfill::shadow {

// Makes on `shadow` each trigger of `live` itself, disabled or enabled as it is. ATTACH makes those
// that come from the parent. SHARE ROW EXCLUSIVE on the shadow.
void copy_triggers(Oid live, Oid shadow);

} // namespace partbackfill::shadow
