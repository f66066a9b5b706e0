#include "partbackfill/core/throttle.hpp"

#include <algorithm>

namespace partbackfill::core {

namespace {

constexpr Seconds kMostSaved{0.5};
constexpr Seconds kLateWakeUp{0.01};
constexpr Seconds kRecent{2};

} // namespace

void TokenBucket::fill(TimePoint now) {
    tokens_ = std::min(tokens_ + rate_ * Seconds(now - filled_).count(), rate_ * kMostSaved.count());
    filled_ = now;
}

void TokenBucket::set_rate(double rate, TimePoint now) {
    fill(now);
    rate_ = rate;
    if (rate_ <= 0)
        tokens_ = 0;
}

// The bytes of a long step were written during all of it: the tokens of that time are there
// for them, and only what is left over is limited to kMostSaved.
void TokenBucket::spend(double amount, TimePoint now) {
    if (rate_ <= 0)
        return;
    tokens_ += rate_ * Seconds(now - filled_).count() - amount;
    filled_ = now;
    fill(now);
}

Seconds TokenBucket::debt(TimePoint now) {
    if (rate_ <= 0)
        return Seconds(0);
    fill(now);
    return Seconds(std::max(0.0, -tokens_ / rate_));
}

void NiceRatio::set(double ratio) noexcept {
    if (ratio <= 0)
        owed_ = Seconds(0);
    else if (ratio < ratio_)
        owed_ *= ratio / ratio_;
    ratio_ = ratio;
}

// Sleep for another reason counts, too, but is not saved for later. Waking up late is made
// up for, or it would add up over many sleeps.
void NiceRatio::slept(Seconds time) noexcept {
    if (ratio_ > 0)
        owed_ = std::max(-kLateWakeUp, owed_ - time);
}

bool Hysteresis::update(bool seen, TimePoint now) {
    if (seen)
        last_seen_ = now;
    else if (last_seen_ && now - *last_seen_ >= kClearFor)
        last_seen_.reset();
    return last_seen_.has_value();
}

Seconds Hysteresis::clear_for(TimePoint now) const {
    return last_seen_ ? Seconds(now - *last_seen_) : Seconds(0);
}

// Older figures fade: never more than about kRecent of work is kept.
void RecentRate::add(double amount, Seconds worked) noexcept {
    amount_ += amount;
    worked_ += worked;
    if (worked_ > 2 * kRecent) {
        amount_ /= 2;
        worked_ /= 2;
    }
}

double RecentRate::per_second() const noexcept {
    return worked_ > Seconds(0) ? amount_ / worked_.count() : 0;
}

} // namespace partbackfill::core
