// Settings of a whole session: those that travel from the caller of backfill_start to the
// workers, and those that a worker makes for itself.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace partbackfill::pg {

using Setting = std::pair<std::string, std::string>; // name, value

// The settings under which the caller of backfill_start tried the query: all that decide
// what a query means, whatever their source, since defaults may be others by the time at
// which a worker starts; and any other that the role may make, if the role made it, or has
// it from its client, its role or its database. After SET ROLE the role that counts has
// others of its own.
std::vector<Setting> session_settings();

// Makes the settings for the rest of the session, as the current role. One that
// the server refuses is skipped with a warning in the log.
void set_for_session(const std::vector<Setting> &settings);

// RESET ALL: the settings of the configuration, the database and the role.
void reset_session();

// Makes one setting for the rest of the session, over anything a role or a
// database has set.
void override_for_session(const char *name, const char *value);

// Makes one setting for the rest of the session, as a superuser; configured_value() still
// gives what the configuration says.
void force_for_session(const char *name, const char *value);

// The value that the configuration, the database and the role give the setting, without
// what the session has set; a number without its unit.
std::string configured_value(const char *name);

} // namespace partbackfill::pg
