#include "partbackfill/core/replay_lag.hpp"

#include <algorithm>

namespace partbackfill::core {

namespace {

// Beyond that the older looks are thinned out: the longer the lag, the less does
// its last second matter.
constexpr size_t kMostLooks = 1024;

} // namespace

void ReplayLag::written(std::uint64_t position, TimePoint now) {
    if (!looks_.empty() && looks_.back().first >= position)
        return;
    looks_.emplace_back(position, now);
    if (looks_.size() <= kMostLooks)
        return;
    std::vector<std::pair<std::uint64_t, TimePoint>> kept;
    for (size_t i = 0; i < looks_.size(); i += 2)
        kept.push_back(looks_[i]);
    looks_ = std::move(kept);
}

ReplayLag::Seconds ReplayLag::behind(std::uint64_t replayed, TimePoint now) const {
    const auto first =
        std::upper_bound(looks_.begin(), looks_.end(), replayed,
                         [](std::uint64_t position, const auto &look) { return position < look.first; });
    return first == looks_.end() ? Seconds(0) : Seconds(now - first->second);
}

bool ReplayLag::older_than_known(std::uint64_t replayed) const {
    return !looks_.empty() && replayed < looks_.front().first;
}

} // namespace partbackfill::core
