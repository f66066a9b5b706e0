// Settings (GUCs) for a while.
#pragma once

namespace partbackfill::pg {

// Within its life, settings made by set() hold. Its end restores the settings from before,
// whatever the user's code that ran within it has set. Must end within the
// (sub)transaction in which it began.
class SettingsScope {
public:
    SettingsScope();
    ~SettingsScope();
    SettingsScope(const SettingsScope &) = delete;
    SettingsScope &operator=(const SettingsScope &) = delete;
    // Makes the setting as the current role: one that the role may not make is an error.
    void set(const char *name, const char *value);
    // Makes the setting as a superuser: for what only a superuser may make, and no user's
    // SQL runs under.
    void force(const char *name, const char *value);

private:
    int level_;
};

} // namespace partbackfill::pg
