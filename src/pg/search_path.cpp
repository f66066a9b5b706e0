#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
}

#include "partbackfill/pg/citus_settings.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/session_settings.hpp"

namespace partbackfill::pg {

namespace {

constexpr const char *kPinned =
    "pg_catalog, pg_temp"; // pg_temp by name, last: types and tables are looked for there first otherwise

const Caller *caller = nullptr; // of the innermost call, or of the worker
Caller of_worker;

} // namespace

PinnedPath::PinnedPath() {
    set(kSearchPath, kPinned);
}

PinnedCall::PinnedCall()
    : caller_{guard([] { return GetConfigOption(kSearchPath, false, false); }), GetUserId()}, outer_(caller) {
    caller = &caller_;
    switch_citus_off(pinned_);
}

PinnedCall::~PinnedCall() {
    caller = outer_;
}

void pin_session_path() {
    override_for_session(kSearchPath, kPinned);
}

void pin_transaction_path() {
    set_config_option(kSearchPath, kPinned, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void set_caller(const std::optional<std::string> &path) {
    of_worker = {path.value_or(""), GetUserId()};
    caller = path ? &of_worker : nullptr;
}

std::string callers_path() {
    return caller != nullptr ? caller->path : kPinned;
}

int use_callers_path() {
    const int level = NewGUCNestLevel();
    if (caller == nullptr)
        return level;
    if (caller->role != GetUserId())
        elog(ERROR, "search_path of another role");
    set_config_option(kSearchPath, caller->path.c_str(), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                      false);
    return level;
}

void end_callers_path(int level) {
    AtEOXact_GUC(false, level);
}

CallersPath::CallersPath() : level_(guard([] { return use_callers_path(); })) {}

CallersPath::~CallersPath() {
    guard_noexcept([](void *level) { end_callers_path(*static_cast<int *>(level)); }, &level_);
}

} // namespace partbackfill::pg
