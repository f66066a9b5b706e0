#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"
}

#include <cstdint>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"

namespace partbackfill::pg {

namespace {

// The wait event that a sleep of this kind shows; it has a name of its own on 17 and later.
std::uint32_t wait_event([[maybe_unused]] Wait why) {
#if PG_VERSION_NUM >= 170000
    static std::uint32_t delay = 0;
    static std::uint32_t idle = 0;
    static std::uint32_t backoff = 0;
    static std::uint32_t result = 0;
    static std::uint32_t throttle = 0;
    const auto named = [](std::uint32_t &event, const char *name) {
        if (event == 0)
            event = WaitEventExtensionNew(name);
        return event;
    };
    switch (why) {
    case Wait::delay:
        return named(delay, "PartbackfillDelay");
    case Wait::idle:
        return named(idle, "PartbackfillIdle");
    case Wait::backoff:
        return named(backoff, "PartbackfillBackoff");
    case Wait::result:
        return named(result, "PartbackfillResult");
    case Wait::throttle:
        return named(throttle, "PartbackfillThrottle");
    }
#endif
    return PG_WAIT_EXTENSION;
}

void check_interrupts() {
    guard([] {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending && !IsTransactionState()) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
    });
}

} // namespace

void wait_latch(std::chrono::milliseconds timeout, Wait why) {
    const auto event = wait_event(why);
    guard([&] {
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                  static_cast<long>(timeout.count()), event);
        ResetLatch(MyLatch);
    });
    check_interrupts();
}

void sleep(std::chrono::milliseconds duration, Wait why) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + duration;
    check_interrupts();
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
        if (left <= std::chrono::milliseconds::zero())
            return;
        wait_latch(left, why);
    }
}

void forget_cancel() noexcept {
    QueryCancelPending = false;
}

} // namespace partbackfill::pg
