#include "partbackfill/pg/server.hpp"

extern "C" {
#include "commands/progress.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
}

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/throttle/activity.hpp"

namespace partbackfill::throttle {

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
    case Phase::catching_up:
        return "catching up";
    case Phase::auditing:
        return "auditing";
    case Phase::swapping:
        return "swapping";
    }
    return "";
}

// The parts of the text.
struct Parts {
    std::int64_t job;
    int ordinal;
    char phase[512];
    std::int64_t rows; // less than 0: not known
    double throttled;
    double stalled;
    std::int64_t keys_behind; // less than 0: not known
    double catch_up_time;     // less than 0: not known
};
Parts parts{0, 0, "", -1, 0, 0, -1, -1};

void set_phase(const std::string &text) {
    text.copy(parts.phase, sizeof(parts.phase) - 1);
    parts.phase[std::min(text.size(), sizeof(parts.phase) - 1)] = '\0';
}

// The progress view loses the rows of a load for a moment when a subtransaction rolls back, and
// for good when the load ends.
void keep_rows() {
    if (MyBEEntry != nullptr && MyBEEntry->st_progress_command == PROGRESS_COMMAND_COPY)
        parts.rows =
            std::max<std::int64_t>(parts.rows, MyBEEntry->st_progress_param[PROGRESS_COPY_TUPLES_PROCESSED]);
}

void show(BackendState state, const std::string &waiting_on) {
    std::string text = parts.phase;
    if (parts.rows >= 0)
        text += fmt::format("; {} rows", parts.rows);
    if (parts.keys_behind >= 0)
        text += fmt::format("; {} keys behind", parts.keys_behind);
    if (parts.keys_behind >= 0 && parts.catch_up_time >= 0)
        text += fmt::format(" ({:.0f} s)", parts.catch_up_time);
    if (parts.throttled > 0)
        text += fmt::format("; throttled {:.1f} s", parts.throttled);
    if (parts.stalled > 0)
        text += fmt::format("; stalled {:.1f} s", parts.stalled);
    if (!waiting_on.empty())
        text += "; waiting on " + waiting_on;
    pg::guard([&] { pgstat_report_activity(state, text.c_str()); });
}

void show_running(const std::string &waiting_on = "") {
    keep_rows();
    show(STATE_RUNNING, waiting_on);
}

} // namespace

void show_phase(const job::Partition &partition, Phase phase, int part, int parts_of_phase) {
    if (partition.job != parts.job || partition.ordinal != parts.ordinal || phase == Phase::creating)
        parts = {partition.job, partition.ordinal, "", -1, 0, 0, -1, -1};
    parts.keys_behind = -1;
    std::string text = fmt::format("backfill job {} partition {} {}: {}", partition.job, partition.ordinal,
                                   partition.name, name(phase));
    if (parts_of_phase > 0)
        text += fmt::format(" {}/{}", part, parts_of_phase);
    set_phase(text);
    show_running();
}

void show_rows(std::int64_t rows) {
    parts.rows = rows;
    show_running();
}

void show_rows_of_load() {
    show_running();
}

void show_keys_behind(std::int64_t keys, std::optional<std::chrono::duration<double>> time_left) {
    parts.keys_behind = keys;
    parts.catch_up_time = time_left ? time_left->count() : -1;
    show_running();
}

void show_waiting(const Waited &waited, const std::string &waiting_on) {
    parts.throttled = waited.throttled.count();
    parts.stalled = waited.stalled.count();
    show_running(waiting_on);
}

void show_injection_point(const char *point) {
    show_running(std::string("injection point ") + point);
}

void show_idle(std::int64_t job, const std::string &waiting_on) {
    parts = {job, 0, "", -1, 0, 0, -1, -1};
    set_phase(fmt::format("backfill job {}", job));
    show(STATE_IDLE, waiting_on);
}

} // namespace partbackfill::throttle
