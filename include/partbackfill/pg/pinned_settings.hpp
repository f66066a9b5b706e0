// The settings under which the extension's own statements run.
#pragma once

#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::pg {

// Within its life nothing that a user, a role or a database has set changes what the
// extension's own statements, its DDL and every pg_get_* read or write. Only the user's own
// query sees the user's settings.
class PinnedSettings : public PinnedPath {
public:
    PinnedSettings();
};

} // namespace partbackfill::pg
