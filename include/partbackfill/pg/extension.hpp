// The extension's owner and schema, and acting as its owner.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/pinned_settings.hpp"

namespace partbackfill::pg {

struct Extension {
    Oid oid = kNoOid;
    Oid owner = kNoOid;
    Oid schema_oid = kNoOid;
    std::string schema; // quoted where needed
};

// Looks the extension up in the catalogs of this database; an error when it is
// not installed. Must be in a transaction.
Extension find_extension();

// Whether the extension is installed in this database, in the version of the library: for processes of the
// extension, which leave another version's tables alone. Logs, once in the life of the process, that the
// versions differ. Must be in a transaction.
bool extension_usable();

// Within its life the process acts as the extension's owner, with pinned
// settings; an error when the extension has another version than the library, when the owner is no superuser,
// or another role could make the owner run something of that role's (require_trusted). Only for the
// extension's own, fixed, fully qualified statements on its own tables and schemas: never for anything that a
// user wrote.
class AsExtensionOwner {
public:
    AsExtensionOwner();
    ~AsExtensionOwner();
    AsExtensionOwner(const AsExtensionOwner &) = delete;
    AsExtensionOwner &operator=(const AsExtensionOwner &) = delete;
    const Extension &extension() const noexcept { return extension_; }

private:
    PinnedSettings settings_;
    Extension extension_;
    Oid user_before_ = kNoOid;
    int context_before_ = 0;
};

// The role whose privileges count now.
Oid current_role();

// The role's name; "role 1234" when it is gone.
std::string role_name(Oid role);

} // namespace partbackfill::pg
