#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/xlog.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/spin.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/processes.hpp"
#include "partbackfill/pg/standbys.hpp"

namespace partbackfill::pg {

namespace {

struct Seen {
    int pid;
    WalSndState state;
    XLogRecPtr replayed;
    TimeOffset lag;
};

Seen seen_of(WalSnd *sender) {
    SpinLockAcquire(&sender->mutex);
    const Seen seen{sender->pid, sender->state, sender->apply, sender->applyLag};
    SpinLockRelease(&sender->mutex);
    return seen;
}

// A walsender of logical replication is connected to a database.
bool is_physical(int pid) {
    return guard([&] {
        const PGPROC *process = BackendPidGetProc(pid);
        return process != nullptr && !OidIsValid(process->databaseId);
    });
}

} // namespace

std::vector<Standby> standbys() {
    std::vector<Standby> found;
    for (int i = 0; i < max_wal_senders; i++) {
        const Seen seen = seen_of(&WalSndCtl->walsnds[i]);
        const bool streams = seen.state == WALSNDSTATE_STREAMING || seen.state == WALSNDSTATE_CATCHUP;
        if (seen.pid == 0 || !streams || XLogRecPtrIsInvalid(seen.replayed) || !is_physical(seen.pid))
            continue;
        found.push_back({seen.pid, seen.replayed,
                         seen.lag >= 0 ? std::optional(static_cast<double>(seen.lag) / 1e6) : std::nullopt});
    }
    return found;
}

std::string standby_name(int pid) {
    const char *name = guard([&] {
        pgstat_clear_snapshot(); // or what was read of other processes before would be given again
        return application_name_of(pid);
    });
    return name != nullptr ? name : "";
}

std::uint64_t flushed_log() {
    return guard([] { return GetFlushRecPtr(nullptr); });
}

} // namespace partbackfill::pg
