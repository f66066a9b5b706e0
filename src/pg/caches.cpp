#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/inval.h"
}

#include "partbackfill/pg/caches.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

void empty_caches() {
    guard([] { InvalidateSystemCaches(); });
}

} // namespace partbackfill::pg
