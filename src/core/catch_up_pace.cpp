#include "partbackfill/core/catch_up_pace.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/core/quantity.hpp"

namespace partbackfill::core {

namespace {

// A pass that is not at least this much smaller than the last one does not catch up.
constexpr double kShrinks = 0.9;
// A shorter time tells nothing of a rate.
constexpr CatchUpPace::Seconds kShortest{0.1};

} // namespace

void CatchUpPace::begin_pass(std::int64_t keys, TimePoint now) {
    const Seconds time = since_begin(now);
    const bool is_first = keys_ == 0;
    too_slow_ = !is_first && static_cast<double>(keys) >= kShrinks * static_cast<double>(keys_);
    in_.reset();
    out_.reset();
    if (!is_first && time > kShortest) {
        in_ = static_cast<double>(std::max<std::int64_t>(keys - keys_ + done_, 0)) / time.count();
        out_ = static_cast<double>(done_) / time.count();
    }
    keys_ = keys;
    done_ = 0;
    begun_ = now;
}

std::int64_t CatchUpPace::behind() const {
    return std::max<std::int64_t>(keys_ - done_, 0);
}

std::optional<CatchUpPace::Seconds> CatchUpPace::time_left(TimePoint now) const {
    const Seconds time = since_begin(now);
    const double in = in_.value_or(0);
    const double out =
        done_ > 0 && time > kShortest ? static_cast<double>(done_) / time.count() : out_.value_or(0);
    if (out <= in)
        return std::nullopt;
    return Seconds((static_cast<double>(behind()) + in * time.count()) / (out - in));
}

std::string CatchUpPace::text() const {
    std::string text = fmt::format("{} keys behind", format_count(keys_));
    if (in_ && out_)
        text += fmt::format(", {} keys/s in, {} keys/s out", format_count(static_cast<std::int64_t>(*in_)),
                            format_count(static_cast<std::int64_t>(*out_)));
    return text;
}

} // namespace partbackfill::core
