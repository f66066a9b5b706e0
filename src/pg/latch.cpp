#include "partbackfill/pg/server.hpp"

extern "C" {
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"
}

#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"

namespace partbackfill::pg {

void check_interrupts() {
    guard([] {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending && !IsTransactionState()) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
    });
}

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
