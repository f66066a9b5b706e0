#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
}

#include "partbackfill/pg/lock_holders.hpp"

namespace partbackfill::pg {

bool lock_held_by_me(const LOCKTAG *tag, LOCKMODE mode) {
#if PG_VERSION_NUM >= 170000
    return LockHeldByMe(tag, mode, false);
#else
    return LockHeldByMe(tag, mode);
#endif
}

PGPROC *process_of(VirtualTransactionId transaction) {
#if PG_VERSION_NUM >= 170000
    if (transaction.procNumber == INVALID_PROC_NUMBER)
        return nullptr;
    PGPROC *process = ProcNumberGetProc(transaction.procNumber);
    return process != nullptr && process->vxid.lxid == transaction.localTransactionId ? process : nullptr;
#else
    if (transaction.backendId == InvalidBackendId)
        return nullptr;
    PGPROC *process = BackendIdGetProc(transaction.backendId);
    return process != nullptr && process->lxid == transaction.localTransactionId ? process : nullptr;
#endif
}

} // namespace partbackfill::pg
