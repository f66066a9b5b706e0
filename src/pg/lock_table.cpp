#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/lock.h"
}

#include "partbackfill/pg/lock_table.hpp"

namespace partbackfill::pg {

// As NLOCKENTS() in the server's lock.c.
long lock_table_size() {
    return static_cast<long>(max_locks_per_xact) * (MaxBackends + max_prepared_xacts);
}

} // namespace partbackfill::pg
