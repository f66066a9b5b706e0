#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/guc.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::pg {

SettingsScope::SettingsScope() : level_(guard([] { return NewGUCNestLevel(); })) {}

SettingsScope::~SettingsScope() {
    // As at an abort, which is how the server ends a call of an index's functions: a
    // set_config() by code that ran within would outlast the scope otherwise.
    guard_noexcept([](void *level) { AtEOXact_GUC(false, *static_cast<int *>(level)); }, &level_);
}

void SettingsScope::set(const char *name, const char *value) {
    guard(
        [&] { set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false); });
}

void SettingsScope::force(const char *name, const char *value) {
    guard([&] { set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false); });
}

} // namespace partbackfill::pg
