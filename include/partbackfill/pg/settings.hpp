// Settings (GUCs) for a while.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

using Setting = std::pair<std::string, std::string>; // name, value

// Within its life, settings made by set() hold; its end restores what was.
// Must end within the transaction in which it began.
class SettingsScope {
public:
    SettingsScope();
    ~SettingsScope();
    SettingsScope(const SettingsScope &) = delete;
    SettingsScope &operator=(const SettingsScope &) = delete;
    // As the current role would: a setting that it may not make is an error.
    void set(const char *name, const char *value);
    // As a superuser would: for what only they may make, and no user's SQL runs under.
    void force(const char *name, const char *value);

private:
    int level_;
};

// What the extension's own statements, its DDL and every pg_get_* run under:
// nothing that a user, a role or a database has set changes what they read or
// write. Only the user's own query sees the user's settings.
class PinnedSettings : public SettingsScope {
public:
    PinnedSettings();
    ~PinnedSettings();

private:
    friend int use_callers_path();
    std::string path_; // search_path outside, and the role that it was in force for
    Oid role_;
};

// Within its life search_path is again what the outermost PinnedSettings found: for
// steps in which the server parses or calls functions that a table's expressions name,
// as the same command of the caller's would. Their bodies may need it, and nothing else
// in such a step may: statements name their objects with schemas, and contain no
// operator. An error for any other role than that which had the path, and so as the
// extension's owner.
class CallersPath {
public:
    CallersPath();
    ~CallersPath();
    CallersPath(const CallersPath &) = delete;
    CallersPath &operator=(const CallersPath &) = delete;

private:
    int level_;
};

// What CallersPath does, in C's way: a jump between the two is undone by PinnedSettings.
int use_callers_path();
void end_callers_path(int level);

// The settings that the caller of backfill_start tried the query under: all that decide
// what a query means, made by anybody or left at their defaults, which may be others by
// the time at which a worker starts; and any other that the role may make, if it made it
// itself or has it from its client, its role or its database. After SET ROLE the role
// that counts has others of its own.
std::vector<Setting> session_settings();

// Makes the settings for the rest of the session, as the current role. One that
// the server refuses is skipped with a warning in the log.
void set_for_session(const std::vector<Setting> &settings);

// RESET ALL: the settings of the configuration, the database and the role.
void reset_session();

// Makes one setting for the rest of the session, over anything a role or a
// database has set.
void override_for_session(const char *name, const char *value);

// As a superuser would, for the rest of the session; what the configuration says
// stays known.
void force_for_session(const char *name, const char *value);

// What the configuration, the database and the role say, without what the session
// has set; without a unit.
std::string configured_value(const char *name);

} // namespace partbackfill::pg
