// Rights of roles to act as others: every question of that kind is answered here, for the
// functions and views as for each step of a worker.
#pragma once

#include <optional>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// Whether the current role could SET ROLE to that one: it is that role, a superuser, or a
// member of it, whether it inherits or not; from PostgreSQL 16 on a member WITH SET. What
// a job runs is run as its owner: a role that could not become the owner has no say in it.
bool may_act_as(Oid role);

// Whether the current role, without SET ROLE, may change what `owner` owns: the server's
// commands ask for inherited privileges of `owner`, and for SET to hand a new table to it.
bool may_change_for(Oid owner);

// The owner of a table as the catalogs show it now; nothing when the table is gone.
std::optional<Oid> owner_of(Oid table);

} // namespace partbackfill::pg
