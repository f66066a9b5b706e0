#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/guc.h"
}

#include "partbackfill/pg/citus_settings.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/session_settings.hpp"

namespace partbackfill::pg {

namespace {

constexpr const char *kSettings[] = {"citus.override_table_visibility", "citus.enable_ddl_propagation"};

bool exists(const char *setting) {
    return guard([&] { return GetConfigOption(setting, true, false) != nullptr; });
}

} // namespace

void switch_citus_off(SettingsScope &scope) {
    for (const char *setting : kSettings)
        if (exists(setting))
            scope.set(setting, "off");
}

void switch_citus_off_for_session() {
    for (const char *setting : kSettings)
        if (exists(setting))
            override_for_session(setting, "off");
}

} // namespace partbackfill::pg
