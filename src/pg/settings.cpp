#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
}

#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::pg {

SettingsScope::SettingsScope() : level_(guard([] { return NewGUCNestLevel(); })) {}

SettingsScope::~SettingsScope() {
    // As at an abort, as the server ends the functions of an index: a set_config() of code
    // that ran within would last otherwise, and take the place of what was outside.
    guard_noexcept([](void *level) { AtEOXact_GUC(false, *static_cast<int *>(level)); }, &level_);
}

void SettingsScope::set(const char *name, const char *value) {
    guard(
        [&] { set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false); });
}

void SettingsScope::force(const char *name, const char *value) {
    guard([&] { set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false); });
}

namespace {

constexpr const char *kPath = "search_path";
constexpr const char *kPinned =
    "pg_catalog, pg_temp"; // named last: types and tables are looked for there first otherwise

const Caller *caller = nullptr; // of the innermost call, or of the worker
Caller of_worker;

} // namespace

PinnedPath::PinnedPath() {
    set(kPath, kPinned);
}

PinnedCall::PinnedCall()
    : caller_{guard([] { return GetConfigOption(kPath, false, false); }), GetUserId()}, outer_(caller) {
    caller = &caller_;
}

PinnedCall::~PinnedCall() {
    caller = outer_;
}

void pin_session_path() {
    override_for_session(kPath, kPinned);
}

void pin_transaction_path() {
    set_config_option(kPath, kPinned, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void set_caller(const std::optional<std::string> &path) {
    of_worker = {path.value_or(""), GetUserId()};
    caller = path ? &of_worker : nullptr;
}

std::string callers_path() {
    return caller != nullptr ? caller->path : kPinned;
}

PinnedSettings::PinnedSettings() {
    set("DateStyle", "ISO, YMD");
    set("IntervalStyle", "postgres");
    set("extra_float_digits", "3");
    set("TimeZone", "UTC");
    set("default_tablespace", "");
    set("default_table_access_method", "heap");
    set("array_nulls", "on");
    set("quote_all_identifiers", "off");
    set("jit", "off");
    set("max_parallel_workers_per_gather", "0");
}

int use_callers_path() {
    const int level = NewGUCNestLevel();
    if (caller == nullptr)
        return level;
    if (caller->role != GetUserId())
        elog(ERROR, "search_path of another role");
    set_config_option(kPath, caller->path.c_str(), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
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

std::vector<Setting> session_settings() {
    std::vector<std::string> meaning;
    List *decisive = guard([] { return settings_of_meaning(); });
    for (int i = 0; i < list_length(decisive); i++)
        meaning.emplace_back(static_cast<const char *>(list_nth(decisive, i)));
    // synchronous_commit would be that of the worker's own commits, which count attempts.
    // plpgsql.variable_conflict decides what a function means, too, but not every role may make it.
    const Result result = query(R"SQL(
        SELECT s.name, pg_catalog.current_setting(s.name)
        FROM pg_catalog.pg_settings AS s
        WHERE (s.source OPERATOR(pg_catalog.=) ANY (ARRAY['session', 'client', 'user', 'database', 'database user'])
               OR s.name OPERATOR(pg_catalog.=) ANY ($1) OR s.name OPERATOR(pg_catalog.=) 'plpgsql.variable_conflict')
          AND (s.context OPERATOR(pg_catalog.=) 'user' OR s.name OPERATOR(pg_catalog.=) 'plpgsql.variable_conflict')
          AND s.name OPERATOR(pg_catalog.!~) '^(default_)?transaction_'
          AND s.name OPERATOR(pg_catalog.!~) '_timeout$'
          AND s.name OPERATOR(pg_catalog.<>) ALL (ARRAY['client_encoding', 'application_name', 'exit_on_error', 'row_security',
                                                        'synchronous_commit'])
        ORDER BY s.name
    )SQL",
                                {meaning});
    std::vector<Setting> settings;
    for (const Row &row : result.rows)
        settings.emplace_back(row.text(0), row.text(0) == kPath ? callers_path() : row.text(1));
    List *placeholders = guard([] { return session_placeholders(); });
    for (int i = 0; i < list_length(placeholders); i++) {
        const char *name = static_cast<const char *>(list_nth(placeholders, i));
        const char *value = guard([&] { return GetConfigOption(name, true, false); });
        if (value != nullptr)
            settings.emplace_back(name, value);
    }
    return settings;
}

void set_for_session(const std::vector<Setting> &settings) {
    for (const Setting &setting : settings)
        guard([&] {
            set_config_option(setting.first.c_str(), setting.second.c_str(), PGC_USERSET, PGC_S_SESSION,
                              GUC_ACTION_SET, true, WARNING, false);
        });
}

void reset_session() {
    guard([] { ResetAllOptions(); });
}

void override_for_session(const char *name, const char *value) {
    guard([&] { set_config_option(name, value, PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false); });
}

void force_for_session(const char *name, const char *value) {
    guard([&] { set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SET, true, 0, false); });
}

std::string configured_value(const char *name) {
    return guard([&] { return GetConfigOptionResetString(name); });
}

} // namespace partbackfill::pg
