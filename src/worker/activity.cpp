#include "partbackfill/pg/server.hpp"

extern "C" {
#include "commands/progress.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
}

#include <algorithm>

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

// What the line is made of, kept since its parts change at different times.
struct Line {
    std::int64_t job;
    int ordinal;
    char phase[512];
    std::int64_t rows; // less than 0: none are known
    double throttled;
    double held;
};
Line line{0, 0, "", -1, 0, 0};

// What the progress view shows of a load, which a subtransaction that rolls back wipes
// out for a moment, and the end of the load for good.
void keep_rows() {
    if (MyBEEntry != nullptr && MyBEEntry->st_progress_command == PROGRESS_COMMAND_COPY)
        line.rows =
            std::max<std::int64_t>(line.rows, MyBEEntry->st_progress_param[PROGRESS_COPY_TUPLES_PROCESSED]);
}

void show(const std::string &waiting_on) {
    keep_rows();
    std::string text = line.phase;
    if (line.rows >= 0)
        text += fmt::format("; {} rows", line.rows);
    if (line.throttled > 0)
        text += fmt::format("; throttled {:.1f} s", line.throttled);
    if (line.held > 0)
        text += fmt::format("; held {:.1f} s", line.held);
    if (!waiting_on.empty())
        text += "; waiting on " + waiting_on;
    pg::guard([&] { pgstat_report_activity(STATE_RUNNING, text.c_str()); });
}

} // namespace

void show_phase(const job::Partition &partition, Phase phase, int part, int parts) {
    if (partition.job != line.job || partition.ordinal != line.ordinal || phase == Phase::creating)
        line = {partition.job, partition.ordinal, "", -1, 0, 0};
    std::string text = fmt::format("backfill job {} partition {} {}: {}", partition.job, partition.ordinal,
                                   partition.name, name(phase));
    if (parts > 0)
        text += fmt::format(" {}/{}", part, parts);
    text.copy(line.phase, sizeof(line.phase) - 1);
    line.phase[std::min(text.size(), sizeof(line.phase) - 1)] = '\0';
    show("");
}

void show_rows() {
    show("");
}

void show_rows(std::int64_t rows) {
    line.rows = rows;
    show("");
}

void show_waiting(const Waited &waited, const std::string &waiting_on) {
    line.throttled = waited.throttled.count();
    line.held = waited.held.count();
    show(waiting_on);
}

void show_fault(const char *point) {
    show(std::string("fault point ") + point);
}

void show_idle(std::int64_t job, const std::string &waiting_on) {
    std::string text = fmt::format("backfill job {}", job);
    if (!waiting_on.empty())
        text += "; waiting on " + waiting_on;
    line = {job, 0, "", -1, 0, 0};
    text.copy(line.phase, sizeof(line.phase) - 1);
    pg::guard([&] { pgstat_report_activity(STATE_IDLE, text.c_str()); });
}

void log_line(const std::string &text) {
    pg::guard([&] {
        ereport(LOG, (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true)));
    });
}

void log_warning(const std::string &text) {
    pg::guard([&] {
        ereport(WARNING, (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true)));
    });
}

} // namespace partbackfill::worker
