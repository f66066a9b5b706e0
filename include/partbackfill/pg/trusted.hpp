// Whether the extension, its control tables and their functions belong to superusers.
#pragma once

#include "partbackfill/pg/extension.hpp"

namespace partbackfill::pg {

// The error that require_trusted() raises, or nothing. The extension, its control tables and
// the functions that statements on them call must belong to superusers, and no other role
// may have attached anything to these tables or be able to: the workers of all roles run
// what the tables say, and triggers on them run as the extension's owner. Checked again only
// when a role, a function or one of the tables has changed; ACCESS SHARE on the tables for
// the check.
std::optional<ErrorFields> distrust(const Extension &extension);
// Raises an error unless the extension can be trusted.
void require_trusted(const Extension &extension);

// Raises an error unless that owner of a control table is a superuser: for a table that is
// read without SQL. C-style.
void require_superusers_table(Oid owner);

} // namespace partbackfill::pg
