// Who may act as whom: every question of that kind is answered here, for the functions
// and views as for each step of a worker.
#pragma once

#include <optional>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// Whether the current role could SET ROLE to that one: it is that role, a superuser, or a
// member of it, whether it inherits or not; from PostgreSQL 16 on a member WITH SET. What
// a job runs is run as its owner, so who could not become its owner has no say in it.
bool may_act_as(Oid role);

// Whether the current role may change what that role owns, as itself: the server's
// commands ask for its privileges, inherited, and for SET to hand a new table on to it.
bool may_change_for(Oid owner);

// The owner of a table as the catalogs show it now; nothing when the table is gone.
std::optional<Oid> owner_of(Oid table);

} // namespace partbackfill::pg
