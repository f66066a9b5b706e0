// How fast keys that were written are caught up with, and how long that will take.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace partbackfill::core {

// Follows passes over a log that writers lengthen meanwhile: each pass works off what the log holds
// as the pass begins.
class CatchUpPace {
public:
    using TimePoint = std::chrono::steady_clock::time_point;
    using Seconds = std::chrono::duration<double>;

    // A pass begins, with that many keys in the log.
    void begin_pass(std::int64_t keys, TimePoint now);
    // Counts keys of this pass that are worked off.
    void add_done(std::int64_t keys) { done_ += keys; }

    // Keys of this pass that are left. Never less than 0: a batch may take more than the pass began with.
    std::int64_t behind() const;
    // Keys that this pass has worked off.
    std::int64_t done() const noexcept { return done_; }
    // Whether this pass began with hardly fewer keys than the last one: such passes do not catch up.
    bool is_too_slow() const noexcept { return too_slow_; }
    // How long until no key is left, if writers and passes go on as they do. Unknown at first, and where
    // there is no end.
    std::optional<Seconds> time_left(TimePoint now) const;
    // As the pass began, for people: "12,000 keys behind, 900 keys/s in, 700 keys/s out".
    std::string text() const;

private:
    Seconds since_begin(TimePoint now) const { return now - begun_; }

    std::int64_t keys_ = 0; // when this pass began
    std::int64_t done_ = 0; // of this pass
    TimePoint begun_;
    bool too_slow_ = false;
    // Keys a second of the last pass, if that took long enough to tell.
    std::optional<double> in_;
    std::optional<double> out_;
};

} // namespace partbackfill::core
