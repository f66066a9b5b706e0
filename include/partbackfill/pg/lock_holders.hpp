// Locks and the processes that hold them. To be included after server.hpp; the functions
// report errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/lock.h"
#include "storage/proc.h"
}

namespace partbackfill::pg {

// Whether this process holds the lock in that mode.
bool lock_held_by_me(const LOCKTAG *tag, LOCKMODE mode);

// The process that runs that transaction; nullptr when it has ended, or is prepared.
PGPROC *process_of(VirtualTransactionId transaction);

} // namespace partbackfill::pg
