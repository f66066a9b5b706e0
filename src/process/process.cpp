#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
}

#include "partbackfill/process/process.hpp"

namespace partbackfill::process {

void connect_process(Oid database, Oid role, std::uint32_t flags) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(database, role, flags);
}

} // namespace partbackfill::process
