#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
}

#include <algorithm>
#include <csignal>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "partbackfill/pg/fault.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"

namespace partbackfill::pg {

namespace {

char *fault_setting = nullptr;
int crash_pause_ms = 30000;
int most_workers = -1;

constexpr std::chrono::milliseconds kLook{20};

Fault action_of(const std::string &name) {
    if (name == "stop")
        return Fault::stop;
    if (name == "fail")
        return Fault::fail;
    if (name == "exit")
        return Fault::exit;
    return name == "crash" ? Fault::crash : Fault::none;
}

} // namespace

void define_settings() {
    DefineCustomStringVariable("partbackfill.fault", "For tests: where a worker stops, fails or dies.",
                               nullptr, &fault_setting, "", PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                               nullptr);
    DefineCustomIntVariable("partbackfill.crash_pause",
                            "How long a partition whose worker died is left alone, times its attempts.",
                            nullptr, &crash_pause_ms, crash_pause_ms, 0, 3600000, PGC_SIGHUP, GUC_UNIT_MS,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable("partbackfill.max_workers",
                            "How many workers of all jobs in the server may run at once.",
                            "-1 is three quarters of max_worker_processes.", &most_workers, most_workers, -1,
                            0x3FFFF, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    MarkGUCPrefixReserved("partbackfill");
}

Fault fault_at(const char *point, int ordinal) {
    if (fault_setting == nullptr || fault_setting[0] == '\0')
        return Fault::none;
    const std::string setting = fault_setting;
    const auto space = setting.find(' ');
    if (space == std::string::npos)
        return Fault::none;
    const std::string where = setting.substr(0, space);
    if (where != point && where != fmt::format("{}/{}", point, ordinal))
        return Fault::none;
    return action_of(setting.substr(space + 1));
}

void suffer(Fault fault, const char *point) {
    switch (fault) {
    case Fault::none:
        return;
    case Fault::stop:
        wait_latch(kLook, Wait::idle);
        // Also in the middle of a transaction, where nothing else reads it again.
        guard([] {
            if (ConfigReloadPending) {
                ConfigReloadPending = false;
                ProcessConfigFile(PGC_SIGHUP);
            }
        });
        return;
    case Fault::fail:
        raise(sqlcode::kInternal, fmt::format("fault at {}", point));
    case Fault::exit:
        guard([] { kill(MyProcPid, SIGTERM); });
        for (;;)
            wait_latch(kLook, Wait::idle);
    case Fault::crash:
        kill(MyProcPid, SIGKILL);
        return;
    }
}

bool max_workers_is_set() {
    return most_workers >= 0;
}

int max_workers() {
    return most_workers >= 0 ? most_workers : std::max(1, max_worker_processes * 3 / 4);
}

std::chrono::milliseconds crash_pause_unit() {
    return std::chrono::milliseconds(crash_pause_ms);
}

} // namespace partbackfill::pg
