// The trigger function that keeps what a subscription brings out of the control tables.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/fmgrprotos.h"
}

#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/error.hpp"

using namespace partbackfill;

// backfill_keep_local: BEFORE each row, in sessions with session_replication_role =
// replica. A worker of a subscription to a FOR ALL TABLES publication writes the rows
// of the publisher, whose jobs must not be done here and whose numbers would collide with
// this server's. A job that a user's trigger starts in such a worker is this server's own.
PARTBACKFILL_FUNCTION(partbackfill_keep_local) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        pg::raise(pg::sqlcode::kWrongObjectType, "backfill_keep_local() must be called as a trigger");
    const auto *trigger = reinterpret_cast<const TriggerData *>(fcinfo->context);
    if (IsLogicalWorker() && DatumGetInt32(pg_trigger_depth(nullptr)) == 1)
        return Datum{0};
    return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
                                                                      : trigger->tg_trigtuple);
}
