// Who and where the extension is, and acting as its owner.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings.hpp"

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
bool extension_installed();

// Within its life the process acts as the extension's owner, with pinned
// settings; an error when the owner is no superuser, or another role could make it run
// something of its own (require_trusted). Only for the extension's own, fixed, fully qualified statements on
// its own tables and schemas: never for anything that a user wrote.
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

// The role whose privileges count now, and roles by name.
Oid current_role();
std::string role_name(Oid role);

} // namespace partbackfill::pg
