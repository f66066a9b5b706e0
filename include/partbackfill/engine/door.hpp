// What a job is refused for as a whole, before it exists.
#pragma once

#include <string>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

// Raises unless the current role may start a job on the table at all. Takes no lock on it:
// comes first, before the partitions are looked at.
void check_may_start(Oid target);

// Raises on what would make the job fail later, as the current role: not the
// owner of a table, no CREATE on a schema or a tablespace, two leaves of one
// name, a foreign-table or temporary partition, anything of refusals().
void check_at_door(const Target &target, const std::string &method);

} // namespace partbackfill::engine
