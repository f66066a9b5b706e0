// Settings of Citus under which the extension's own statements would not do what they say.
//
// By default Citus hides shards from queries of pg_class, and repeats CREATE SCHEMA and the like on all
// nodes, where the numbers of jobs are others. No view shows these settings.
#pragma once

#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::pg {

// Switches both off where Citus is loaded, for the life of the scope.
void switch_citus_off(SettingsScope &scope);

// As switch_citus_off, for the session of a process of the extension.
void switch_citus_off_for_session();

} // namespace partbackfill::pg
