// The trigger function of the control tables that announces changes of state by NOTIFY.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

#include "partbackfill/job/announcement.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill {

namespace {

// Whether the trigger fires for a new row of a control table: a trigger that another role made
// may fire for statements, which have no row, or on a table without the columns.
bool has_new_control_row(FunctionCallInfo fcinfo, const TriggerData *trigger) {
    if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
        return false;
    return pg::guard([&] {
        const char *table = RelationGetRelationName(trigger->tg_relation);
        return RelationGetNamespace(trigger->tg_relation) == get_func_namespace(fcinfo->flinfo->fn_oid) &&
               (strcmp(table, "backfill_job") == 0 || strcmp(table, "backfill_control") == 0);
    });
}

// A column of the new row; nothing when the table has no such column.
std::optional<std::string> new_value(const TriggerData *trigger, const char *column) {
    const char *value = pg::guard([&]() -> const char * {
        const TupleDesc desc = RelationGetDescr(trigger->tg_relation);
        const HeapTuple row =
            TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
        const int number = SPI_fnumber(desc, column);
        return number > 0 ? SPI_getvalue(row, desc, number) : nullptr;
    });
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_announce: a trigger on backfill_job and backfill_control. The payload is
// job::announcement().
PARTBACKFILL_FUNCTION(partbackfill_announce) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        pg::raise(pg::sqlcode::kWrongObjectType, "backfill_announce() must be called as a trigger");
    const auto *trigger = reinterpret_cast<const TriggerData *>(fcinfo->context);
    if (!has_new_control_row(fcinfo, trigger))
        pg::raise(pg::sqlcode::kWrongObjectType,
                  "backfill_announce() must be called for new rows of the control tables");
    const std::int64_t job = std::stoll(new_value(trigger, "job").value());
    const std::string state = new_value(trigger, "state").value();
    const auto ordinal = new_value(trigger, "ordinal");
    const std::string payload =
        ordinal ? job::announcement(job, std::stoi(*ordinal), new_value(trigger, "partition").value(), state)
                : job::announcement(job, state, new_value(trigger, "label"));
    pg::guard([&] { Async_Notify(job::kChannel, payload.c_str()); });
    return Datum{0};
}
