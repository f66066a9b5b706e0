// Whether all that the extension acts through belongs to superusers.
#pragma once

#include "partbackfill/pg/extension.hpp"

namespace partbackfill::pg {

// The extension, its control tables and the functions that statements on them call must
// belong to superusers, and no other role may have hung anything on these tables or be
// able to: the workers of all roles run what the tables say, and triggers on them run as
// the extension's owner. What is wrong with that, if anything is. Looks again only when a
// role, a function or one of the tables has changed; ACCESS SHARE on the tables for that.
std::optional<ErrorFields> distrust(const Extension &extension);
// An error when something is.
void require_trusted(const Extension &extension);

// An error unless that owner of a control table is a superuser. For where it is read
// without SQL; C-style.
void require_superusers_table(Oid owner);

} // namespace partbackfill::pg
