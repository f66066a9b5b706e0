#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/session_settings.hpp"

namespace partbackfill::pg {

namespace {

struct config_generic **all_settings(int *count) {
#if PG_VERSION_NUM >= 160000
    return get_guc_variables(count);
#else
    *count = GetNumConfigOptions();
    return get_guc_variables();
#endif
}

// How statements behave, how values are read and written, compatibility, and what
// extensions have: not how fast a query is.
bool decides_meaning(const struct config_generic *variable) {
    const config_group group = variable->group;
    const bool wanted = group == CLIENT_CONN_STATEMENT || group == CLIENT_CONN_LOCALE ||
                        group == CLIENT_CONN_OTHER || group == CUSTOM_OPTIONS ||
                        // Both groups of compatibility options; the second has had two names.
                        (group >= COMPAT_OPTIONS_PREVIOUS && group < ERROR_HANDLING_OPTIONS);
    return wanted && variable->context == PGC_USERSET && (variable->flags & GUC_CUSTOM_PLACEHOLDER) == 0;
}

// Names (char *) of the settings that every role may make and that decide what a query
// means.
List *settings_of_meaning() {
    int count = 0;
    struct config_generic **variables = all_settings(&count);
    List *names = NIL;
    for (int i = 0; i < count; i++)
        if (decides_meaning(variables[i]))
            names = lappend(names, pstrdup(variables[i]->name));
    return names;
}

// Names (char *) of the placeholders ("app.x") that have a value, whatever its source;
// pg_settings does not show them.
List *session_placeholders() {
    int count = 0;
    struct config_generic **variables = all_settings(&count);
    List *names = NIL;
    for (int i = 0; i < count; i++) {
        const struct config_generic *variable = variables[i];
        if ((variable->flags & GUC_CUSTOM_PLACEHOLDER) != 0 && variable->source != PGC_S_DEFAULT)
            names = lappend(names, pstrdup(variable->name));
    }
    return names;
}

} // namespace

std::vector<Setting> session_settings() {
    std::vector<std::string> meaning;
    List *decisive = guard([] { return settings_of_meaning(); });
    meaning.reserve(list_length(decisive));
    for (int i = 0; i < list_length(decisive); i++)
        meaning.emplace_back(static_cast<const char *>(list_nth(decisive, i)));
    // synchronous_commit would hold for the worker's own commits, too, which count attempts.
    // plpgsql.variable_conflict decides what a function means, too. Not every role may make it, and one of
    // the role or the database holds for the worker all the same.
    const Result result = query(R"SQL(
        SELECT s.name, pg_catalog.current_setting(s.name)
        FROM pg_catalog.pg_settings AS s
        WHERE (s.source OPERATOR(pg_catalog.=) ANY (ARRAY['session', 'client', 'user', 'database', 'database user'])
               OR s.name OPERATOR(pg_catalog.=) ANY ($1))
          AND (s.context OPERATOR(pg_catalog.=) 'user'
               OR (s.name OPERATOR(pg_catalog.=) 'plpgsql.variable_conflict' AND s.source OPERATOR(pg_catalog.=) ANY (ARRAY['session', 'client'])))
          AND s.name OPERATOR(pg_catalog.!~) '^(default_)?transaction_'
          AND s.name OPERATOR(pg_catalog.!~) '_timeout$'
          AND s.name OPERATOR(pg_catalog.<>) ALL (ARRAY['client_encoding', 'application_name', 'exit_on_error', 'row_security',
                                                        'synchronous_commit'])
        ORDER BY s.name
    )SQL",
                                {meaning});
    std::vector<Setting> settings;
    for (const Row &row : result.rows)
        settings.emplace_back(row.text(0), row.text(0) == kSearchPath ? callers_path() : row.text(1));
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
