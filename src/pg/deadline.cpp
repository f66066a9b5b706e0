#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/latch.h"
#include "utils/timeout.h"
}

#include <csignal>

#include "partbackfill/pg/deadline.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

volatile sig_atomic_t passed = 0;

// Runs in a signal handler.
void cancel_statement() {
    passed = 1;
    QueryCancelPending = 1;
    InterruptPending = 1;
    SetLatch(MyLatch);
}

TimeoutId timeout() {
    static const TimeoutId id = RegisterTimeout(USER_TIMEOUT, cancel_statement);
    return id;
}

} // namespace

Deadline::Deadline(std::chrono::milliseconds limit) {
    passed = 0;
    guard([&] { enable_timeout_after(timeout(), static_cast<int>(limit.count())); });
}

// A cancel that was not served yet would end what follows.
Deadline::~Deadline() {
    disable_timeout(timeout(), false);
    if (passed != 0)
        QueryCancelPending = 0;
}

bool Deadline::is_over(const Error &error) noexcept {
    return passed != 0 && error.code() == sqlcode::kQueryCanceled;
}

} // namespace partbackfill::pg
