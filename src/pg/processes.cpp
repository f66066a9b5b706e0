#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/backend_status.h"
}

#include "partbackfill/pg/processes.hpp"

namespace partbackfill::pg {

namespace {

// The i-th process as this transaction sees them, from 1 to pgstat_fetch_stat_numbackends().
const LocalPgBackendStatus *status_of_backend(int i) {
#if PG_VERSION_NUM >= 160000
    return pgstat_get_local_beentry_by_index(i);
#else
    return pgstat_fetch_stat_local_beentry(i);
#endif
}

} // namespace

const char *application_name_of(int pid) {
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++) {
        const LocalPgBackendStatus *entry = status_of_backend(i);
        if (entry != nullptr && entry->backendStatus.st_procpid == pid)
            return entry->backendStatus.st_appname;
    }
    return nullptr;
}

BackgroundProcesses background_processes(const char *type) {
    BackgroundProcesses count{0, 0};
    pgstat_clear_snapshot(); // or what was read of other processes before would be given again
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++) {
        const LocalPgBackendStatus *entry = status_of_backend(i);
        if (entry == nullptr || entry->backendStatus.st_backendType != B_BG_WORKER)
            continue;
        const char *its_type = GetBackgroundWorkerTypeByPid(entry->backendStatus.st_procpid);
        count.all++;
        count.of_type += its_type != nullptr && strcmp(its_type, type) == 0 ? 1 : 0;
    }
    return count;
}

std::uint32_t bypass_login_flag() {
#if PG_VERSION_NUM >= 170000
    return BGWORKER_BYPASS_ROLELOGINCHECK;
#else
    return 0;
#endif
}

bool needs_login_role() {
    return bypass_login_flag() == 0;
}

} // namespace partbackfill::pg
