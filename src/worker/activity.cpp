#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/backend_status.h"
}

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/worker/activity.hpp"

namespace partbackfill::worker {

namespace {

const char *name(Phase phase) {
    switch (phase) {
    case Phase::creating:
        return "creating";
    case Phase::loading:
        return "loading";
    case Phase::indexing:
        return "indexing";
    case Phase::analyzing:
        return "analyzing";
    case Phase::validating:
        return "validating";
    case Phase::swapping:
        return "swapping";
    }
    return "";
}

} // namespace

void show_phase(const job::Partition &partition, Phase phase, int part, int parts) {
    std::string text =
        fmt::format("backfill job {} partition {} {}: {}", partition.job, partition.ordinal, partition.name, name(phase));
    if (parts > 0)
        text += fmt::format(" {}/{}", part, parts);
    pg::guard([&] { pgstat_report_activity(STATE_RUNNING, text.c_str()); });
}

void show_idle(std::int64_t job) {
    const std::string text = fmt::format("backfill job {}", job);
    pg::guard([&] { pgstat_report_activity(STATE_IDLE, text.c_str()); });
}

void log_line(const std::string &text) {
    pg::guard([&] { ereport(LOG, (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true))); });
}

void log_warning(const std::string &text) {
    pg::guard([&] { ereport(WARNING, (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true))); });
}

} // namespace partbackfill::worker
