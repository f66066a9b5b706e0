// The arithmetic of throttling: how long work has to wait. Every function is told what time
// it is.
#pragma once

#include <chrono>
#include <optional>

namespace partbackfill::core {

using TimePoint = std::chrono::steady_clock::time_point;
using Seconds = std::chrono::duration<double>;

// A budget that fills up at a rate and is spent after the fact: overspending is a debt, and
// waiting pays it. Savings are for half a second at most: they make up for a commit, and an
// idle minute gives no burst.
class TokenBucket {
public:
    explicit TokenBucket(TimePoint now) : filled_(now) {}
    // Units per second; 0 for no limit, which forgives the debt.
    void set_rate(double rate, TimePoint now);
    double rate() const noexcept { return rate_; }
    // Notes what was spent since the last call.
    void spend(double amount, TimePoint now);
    // How long until the debt is paid.
    Seconds debt(TimePoint now);

private:
    void fill(TimePoint now);
    double rate_ = 0;
    double tokens_ = 0;
    TimePoint filled_;
};

// Seconds to sleep for each second worked. Many short sleeps would cost more than few
// long ones, other sessions too: caches are cold after each sleep, and tasks are moved
// between processors.
class NiceRatio {
public:
    static constexpr Seconds kWorthASleep{0.5};
    // A higher ratio holds for the work to come, a lower one for the sleep that is owed, too.
    void set(double ratio) noexcept;
    void worked(Seconds time) noexcept { owed_ += time * ratio_; }
    void slept(Seconds time) noexcept;
    Seconds owed() const noexcept { return owed_; }
    // Whether so much sleep is owed that work is to be interrupted.
    bool is_due() const noexcept { return owed_ >= kWorthASleep; }

private:
    double ratio_ = 0;
    Seconds owed_{0};
};

// A condition that has to stay clear for kClearFor before work goes on: work that went on
// at the first clear moment would bring the condition back at once.
class Hysteresis {
public:
    static constexpr Seconds kClearFor{5};
    // Notes whether the condition is seen now; true while work has to wait.
    bool update(bool seen, TimePoint now);
    // For how long the condition has been clear, while that is not long enough.
    Seconds clear_for(TimePoint now) const;
    void reset() noexcept { last_seen_.reset(); }

private:
    std::optional<TimePoint> last_seen_; // empty when work may go on
};

// The recent rate of something: over the last few seconds of work, without the time slept.
class RecentRate {
public:
    void add(double amount, Seconds worked) noexcept;
    double per_second() const noexcept;

private:
    double amount_ = 0;
    Seconds worked_{0};
};

} // namespace partbackfill::core
