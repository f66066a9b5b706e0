// Settings (GUCs) for a while.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

using Setting = std::pair<std::string, std::string>; // name, value

// Within its life, settings made by set() hold; its end restores what was, whatever code
// of a user that ran within it has set. Must end within the transaction in which it began.
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

// Within its life search_path is pg_catalog, pg_temp, whatever a session, a role or a
// database has set: objects that others made have no name for the extension. Each entry
// from the server passes one (pg/entry.hpp), each transaction of a worker does the same
// (pg/transaction.hpp).
class PinnedPath : public SettingsScope {
public:
    PinnedPath();
};

// Whose search_path CallersPath means.
struct Caller {
    std::string path;
    Oid role; // for which it was in force
};

// Pins search_path for a call of an SQL function, and keeps what the caller had. Calls
// may be nested: the user's query may call functions of the extension.
class PinnedCall {
public:
    PinnedCall();
    ~PinnedCall();
    PinnedCall(const PinnedCall &) = delete;
    PinnedCall &operator=(const PinnedCall &) = delete;

private:
    Caller caller_;
    const Caller *outer_;
    PinnedPath pinned_;
};

// In a background worker: search_path of the session and, in C's way, of the transaction
// that has just begun.
void pin_session_path();
void pin_transaction_path();

// In a background worker: the caller is the current role, with that path; nobody without
// a path.
void set_caller(const std::optional<std::string> &path);

// The caller's search_path, in a worker that has none the pinned one.
std::string callers_path();

// What the extension's own statements, its DDL and every pg_get_* run under beside the
// pinned search_path: nothing that a user, a role or a database has set changes what they
// read or write. Only the user's own query sees the user's settings.
class PinnedSettings : public PinnedPath {
public:
    PinnedSettings();
};

// Within its life search_path is the caller's: for what the caller wrote (source,
// throttle_query, the bounds of a range), and for steps in which the server parses or
// calls functions that a table's expressions name, as the same command of the caller's
// would. Their bodies may need it, and nothing else in such a step may: statements name
// their objects with schemas, and contain no operator. An error for any other role than
// the caller, and so as the extension's owner.
class CallersPath {
public:
    CallersPath();
    ~CallersPath();
    CallersPath(const CallersPath &) = delete;
    CallersPath &operator=(const CallersPath &) = delete;

private:
    int level_;
};

// What CallersPath does, in C's way: a jump between the two is undone by the entry's pin.
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
