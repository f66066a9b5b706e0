// How long to wait, so that work goes no faster than it may. Pure arithmetic:
// every function is told what time it is.
#pragma once

#include <chrono>
#include <optional>

namespace partbackfill::core {

using TimePoint = std::chrono::steady_clock::time_point;
using Seconds = std::chrono::duration<double>;

// A budget that fills up at a rate and is spent after the fact: what was spent
// too much is a debt, and waiting pays it. Savings are for half a second at most: they
// make up for a commit, and an idle minute gives no burst.
class TokenBucket {
public:
    explicit TokenBucket(TimePoint now) : filled_(now) {}
    // Units per second; 0 for no limit, which forgives the debt.
    void set_rate(double rate, TimePoint now);
    double rate() const noexcept { return rate_; }
    // Spent since it was last told the time.
    void spend(double amount, TimePoint now);
    // How long until nothing is owed.
    Seconds debt(TimePoint now);

private:
    void fill(TimePoint now);
    double rate_ = 0;
    double tokens_ = 0;
    TimePoint filled_;
};

// Seconds to sleep for each second worked. Many short sleeps would hurt more than few
// long ones, others too: each time the caches are cold, and tasks are moved about
// between processors.
class NiceRatio {
public:
    static constexpr Seconds kWorthASleep{0.5};
    // A higher ratio holds for the work to come, a lower one for what is owed, too.
    void set(double ratio) noexcept;
    void worked(Seconds time) noexcept { owed_ += time * ratio_; }
    void slept(Seconds time) noexcept;
    Seconds owed() const noexcept { return owed_; }
    // Whether work need be interrupted for it.
    bool is_due() const noexcept { return owed_ >= kWorthASleep; }

private:
    double ratio_ = 0;
    Seconds owed_{0};
};

// A condition that has to stay away for kClearFor before it counts as gone: work
// that goes on at the first good moment would bring it back at once.
class Hysteresis {
public:
    static constexpr Seconds kClearFor{5};
    // Told what is seen now; true while work has to wait.
    bool update(bool seen, TimePoint now);
    // For how long it has been away, while that is not long enough.
    Seconds clear_for(TimePoint now) const;
    void reset() noexcept { last_seen_.reset(); }

private:
    std::optional<TimePoint> last_seen_; // nothing: work may go on
};

// How fast something has been going of late: the figures of the last few seconds
// of work, without the time slept.
class RecentRate {
public:
    void add(double amount, Seconds worked) noexcept;
    double per_second() const noexcept;

private:
    double amount_ = 0;
    Seconds worked_{0};
};

} // namespace partbackfill::core
