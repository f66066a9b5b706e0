// The lock on a label, which keeps two sessions from starting jobs with one label at once.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::locks {

// Held from the look for the owner's job of that label to the end of the transaction, which may start
// one. Waits.
void lock_label(Oid owner, const std::string &label);

} // namespace partbackfill::locks
