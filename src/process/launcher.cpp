// The launcher: once after a start of the server, a promotion or a crash of its processes, it has
// every database scanned for jobs whose workers are gone.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "storage/ipc.h"
#include "utils/snapmgr.h"
}

#include <vector>

#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/process/process.hpp"
#include "partbackfill/process/registration.hpp"

extern "C" {
PGDLLEXPORT void partbackfill_launcher_main(Datum argument);
}

namespace partbackfill::process {

namespace {

constexpr std::chrono::milliseconds kNothingToDo{3600000};

// Databases that can have jobs. The launcher is connected to none and can run no SQL: it reads
// the shared catalog itself, as the autovacuum launcher does.
std::vector<Oid> databases() {
    std::vector<Oid> found;
    pg::Transaction transaction;
    List *oids = pg::guard([] {
        List *list = NIL;
        Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
        TableScanDesc scan = table_beginscan_catalog(catalog, 0, nullptr);
        HeapTuple tuple = nullptr;
        while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
            const auto *database = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
            if (database->datallowconn && !database->datistemplate && database->datconnlimit >= -1)
                list = lappend_oid(list, database->oid);
        }
        table_endscan(scan);
        table_close(catalog, AccessShareLock);
        return list;
    });
    found.reserve(list_length(oids));
    for (int i = 0; i < list_length(oids); i++)
        found.push_back(list_nth_oid(oids, i));
    transaction.commit();
    return found;
}

void scan_databases(void *) {
    for (const Oid database : databases())
        while (!scan_database(database)) {
            log_warning("no free background worker slot to look for backfill jobs");
            pg::wait_latch(kNoSlotPause, pg::Wait::backoff);
        }
    for (;;)
        pg::wait_latch(kNothingToDo, pg::Wait::idle);
}

} // namespace

} // namespace partbackfill::process

void partbackfill_launcher_main(Datum) {
    using namespace partbackfill;
    process::connect_process(InvalidOid, InvalidOid);
    pg::enter_worker(process::scan_databases, nullptr);
    proc_exit(1);
}
