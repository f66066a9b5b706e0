#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
}

#include <chrono>
#include <csignal>
#include <string>

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/guc.hpp"
#include "partbackfill/pg/injection_point.hpp"
#include "partbackfill/pg/latch.hpp"

namespace partbackfill::pg {

namespace {

constexpr std::chrono::milliseconds kPoll{20};

InjectedAction action_of(const std::string &name) {
    if (name == "stop")
        return InjectedAction::stop;
    if (name == "fail")
        return InjectedAction::fail;
    if (name == "exit")
        return InjectedAction::exit;
    return name == "crash" ? InjectedAction::crash : InjectedAction::none;
}

} // namespace

InjectedAction injected_action(const char *point, int ordinal) {
    const std::string setting = injection_point_setting();
    const auto space = setting.find(' ');
    if (space == std::string::npos)
        return InjectedAction::none;
    const std::string where = setting.substr(0, space);
    if (where != point && where != fmt::format("{}/{}", point, ordinal))
        return InjectedAction::none;
    return action_of(setting.substr(space + 1));
}

void inject(InjectedAction action, const char *point) {
    switch (action) {
    case InjectedAction::none:
        return;
    case InjectedAction::stop:
        wait_latch(kPoll, Wait::idle);
        // Also in the middle of a transaction, where the configuration is not read otherwise.
        guard([] {
            if (ConfigReloadPending) {
                ConfigReloadPending = false;
                ProcessConfigFile(PGC_SIGHUP);
            }
        });
        return;
    case InjectedAction::fail:
        raise(sqlcode::kInternal, fmt::format("injected error at {}", point));
    case InjectedAction::exit:
        guard([] { kill(MyProcPid, SIGTERM); });
        for (;;)
            wait_latch(kPoll, Wait::idle);
    case InjectedAction::crash:
        kill(MyProcPid, SIGKILL);
        return;
    }
}

} // namespace partbackfill::pg
