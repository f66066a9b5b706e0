// search_path: the pinned one, under which the extension runs, and the caller's.
#pragma once

#include <optional>
#include <string>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::pg {

inline constexpr const char *kSearchPath = "search_path";

// Within its life search_path is pg_catalog, pg_temp, whatever a session, a role or a
// database has set: objects that others made have no name for the extension. Each entry
// from the server makes one (pg/entry.hpp); a worker's transactions call
// pin_transaction_path() instead.
class PinnedPath : public SettingsScope {
public:
    PinnedPath();
};

// The search_path that CallersPath sets.
struct Caller {
    std::string path;
    Oid role; // for which it was in force
};

// Pins search_path for a call of an SQL function, and keeps what the caller had; switches off what Citus
// would do to the function's statements. Calls may be nested: the user's query may call functions of the
// extension.
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

// Pins search_path for the session of a background worker.
void pin_session_path();

// Pins search_path for the transaction of a background worker that has just begun. C-style.
void pin_transaction_path();

// Makes the current role, with that path, the caller in a background worker; without a path
// there is no caller.
void set_caller(const std::optional<std::string> &path);

// The caller's search_path; the pinned one where there is no caller.
std::string callers_path();

// Within its life search_path is the caller's: for what the caller wrote (source,
// throttle_query, the bounds of a range), and for steps in which the server parses or
// calls functions that a table's expressions name, as the same command of the caller's
// would. Bodies of functions may need it, and nothing else in such a step may: statements
// name their objects with schemas, and contain no operator. An error for any other role
// than the caller, and so as the extension's owner.
class CallersPath {
public:
    CallersPath();
    ~CallersPath();
    CallersPath(const CallersPath &) = delete;
    CallersPath &operator=(const CallersPath &) = delete;

private:
    int level_;
};

// CallersPath in C's way: a jump between the two calls is undone by the entry's pin.
int use_callers_path();
void end_callers_path(int level);

} // namespace partbackfill::pg
